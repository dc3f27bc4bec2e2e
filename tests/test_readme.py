"""README's snippets run as they stand, against a Hub on loopback; its commands and its table are true."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hf_vits.cli import build_parser
from hf_vits.conversion import SYSTEMS, variants
from hf_vits.demo import original_checkpoint
from hf_vits.testing.hub import LoopbackHub
from tests.support.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def user(tmp_path, monkeypatch):
    """What the snippets take for granted: a checkpoint, photos, the recipes, and someone logged in to the Hub."""
    monkeypatch.chdir(tmp_path)
    torch.save(original_checkpoint(), "cct_2_3x2_cifar10.pth")
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        for index in range(10):
            path = Path("photos", name, f"{index}.jpg")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(path)
    shutil.copy(path, "photo.jpg")
    shutil.copytree(ROOT / "recipes", "recipes")
    with LoopbackHub() as hub, hub.in_process(tmp_path / "home", hub.token):
        yield hub


def test_the_snippets_run_one_after_the_other(user, capsys):
    names = {}
    for code in blocks("python"):
        exec(compile(code, "README.md", "exec"), names)
    assert {"config.json", "model.safetensors", "modeling_cct.py", "README.md"} <= set(
        user.repository("user/cct-cifar10").head.files
    )
    assert names["logits"].shape == (1, 10)
    assert names["results"]["train_images"] == 18
    assert [tuple(features.shape) for features in names["maps"]] == [(1, 128, 8, 8)] * 2
    assert Path("runs/photos/confusion_matrix.png").is_file()
    assert capsys.readouterr().out


def test_the_snippets_are_short():
    lines = [len([line for line in code.splitlines() if line and "import " not in line]) for code in blocks("python")]
    assert max(lines) <= 5


def test_the_commands_are_ones_that_hf_vits_takes():
    commands = [shlex.split(line) for console in blocks("console") for line in console.splitlines()]
    assert {words[0] for words in commands} == {"hf-vits"}
    for _, *arguments in commands:
        build_parser(arguments[:1]).parse_args(arguments)


def test_every_make_target_that_is_named_exists():
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+) ", "\n".join(blocks("sh"))))
    assert {"demo", "test", "parity", "conformance"} <= named <= targets


def test_the_table_names_every_system_and_counts_its_variants():
    rows = re.findall(r"^\| [^|]+ \| `(\w+)` \| (\d+) \|", README, flags=re.MULTILINE)
    assert {name: int(count) for name, count in rows} == {name: len(variants(name)) for name in SYSTEMS}
    assert len(rows) == len(SYSTEMS)


def test_links_to_files_lead_somewhere():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README + (ROOT / "CONTRIBUTING.md").read_text())
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]
