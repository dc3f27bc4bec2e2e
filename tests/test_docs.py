"""Snippets of README and of the documentation run as they are, against a Hub on loopback; its commands are ones that
hf-vits takes, its generated parts are complete, and what it names exists."""

import dataclasses
import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from hf_vits.cli import COMMANDS, build_parser
from hf_vits.conversion import SYSTEMS, variants
from hf_vits.demo import original_checkpoint
from hf_vits.testing.hub import LoopbackHub
from tests.support.paths import ROOT

sys.path.insert(0, str(ROOT / "docs"))
import render

SOURCES = sorted((ROOT / "docs").rglob("*.md"))
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *SOURCES]
}
README = PAGES["README.md"]
GUIDES = [name for name in PAGES if name.startswith("docs/guides/") and "```python" in PAGES[name]]


def blocks(language: str, page: str = "README.md") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGES[page], flags=re.DOTALL | re.MULTILINE)


def commands(page: str) -> list[str]:
    """The commands of a page, a line each, without comments."""
    text = "\n".join(blocks("console", page) + blocks("sh", page)).replace("\\\n", " ")
    return [line.partition(" #")[0].strip() for line in text.splitlines()]


def run_snippets(page: str) -> dict:
    """Run the Python blocks of a page one after the other; returns the names that they leave."""
    names = {}
    for code in blocks("python", page):
        exec(compile(code, page, "exec"), names)
    return names


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


def test_the_snippets_of_readme_run(user, capsys):
    names = run_snippets("README.md")
    assert {"config.json", "model.safetensors", "modeling_cct.py", "README.md"} <= set(
        user.repository("user/cct-cifar10").head.files
    )
    assert names["logits"].shape == (1, 10)
    assert names["results"]["train_images"] == 18
    assert [tuple(features.shape) for features in names["maps"]] == [(1, 128, 8, 8)] * 2
    assert Path("runs/photos/confusion_matrix.png").is_file()
    assert capsys.readouterr().out


def test_the_snippets_of_readme_are_short():
    lines = [len([line for line in code.splitlines() if line and "import " not in line]) for code in blocks("python")]
    assert len(lines) == 5
    assert max(lines) <= 5


def test_the_start_page_trains_uses_and_shares_a_model(user):
    names = run_snippets("docs/start.md")
    assert names["results"]["test"]["accuracy"] > 0.9
    assert names["model"].config.id2label[names["logits"].argmax().item()] == "0"
    assert "curves.png" in user.repository("user/cct-digits").head.files


@pytest.mark.parametrize("page", GUIDES)
def test_the_snippets_of_guides_run(page, user):
    assert run_snippets(page)


@pytest.mark.parametrize("page", list(PAGES))
def test_the_commands_are_ones_that_hf_vits_takes(page):
    for command in commands(page):
        program, *arguments = shlex.split(command) or [""]
        if program == "hf-vits":
            build_parser(arguments[:1]).parse_args(arguments)


def test_every_make_target_that_is_named_exists():
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    text = "\n".join(PAGES.values()).replace("\n", " ")
    named = set(re.findall(r"`make ([a-z-]+)`", text)) | {
        shlex.split(command)[1] for page in PAGES for command in commands(page) if command.startswith("make ")
    }
    assert {"demo", "test", "docs", "parity", "conformance"} <= named <= targets


def test_every_file_of_the_repository_that_is_named_exists():
    text = "\n".join([*PAGES.values(), (ROOT / "docs" / "pictures" / "pictures.yaml").read_text()])
    named = set(re.findall(r"\b(?:recipes|examples|benchmarks|docs|tests)/[\w/.-]*\w", text))
    assert "recipes/demo_digits.yaml" in named
    assert not [name for name in named if not (ROOT / name).exists()]


def test_the_table_names_every_system_and_counts_its_variants():
    rows = re.findall(r"^\| [^|]+ \| `(\w+)` \| (\d+) \|", README, flags=re.MULTILINE)
    assert {name: int(count) for name, count in rows} == {name: len(variants(name)) for name in SYSTEMS}
    assert len(rows) == len(SYSTEMS)


def test_links_to_files_lead_somewhere():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README + (ROOT / "CONTRIBUTING.md").read_text())
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]


@pytest.mark.parametrize("section", list(render.recipe_sections()), ids=lambda section: section.path or "recipe")
def test_every_recipe_key_is_described(section):
    keys = {field.name for field in dataclasses.fields(section.cls)}
    sections = {name for name in keys if render.section_class(section.cls, name)}
    summary, entries = render.describe(section.cls)
    assert summary
    assert keys - sections <= entries.keys() <= keys
    assert all(len(text.split()) > 1 for text in entries.values())


def test_the_page_of_recipe_keys_has_types_defaults_and_ranges():
    page = render.recipe_keys()
    for section in render.recipe_sections():
        assert f"{{#{section.path.replace('.', '-') or 'top'}}}" in page
    train = page.partition("{#train}")[2].partition("\n## ")[0]
    assert "| `batch_size` | `int`, positive | required | inputs per optimizer step" in train
    assert "| `precision` | `auto` or `fp32` or `bf16` | `auto` |" in train
    assert "| `max_grad_norm` | `float` or `null`, positive | `null` |" in train
    assert "| `length` | `str`, duration | required |" in train
    assert "| `temporal_attention` | `copy` or `zero` or `null` | `null` |" in page
    assert "Optional[" not in page
    assert "[`model.probe`](#model-probe)" in page


def test_the_api_describes_every_module_on_one_page():
    described = [name for room in render.ROOMS for name in render.modules(room)]
    assert len(described) == len(set(described))
    left_out = {"hf_vits", "hf_vits.demo"}
    for package, folder in render.SOURCES.items():
        for path in folder.rglob("*.py"):
            parts = [part for part in path.relative_to(folder).with_suffix("").parts if part != "__init__"]
            name = ".".join([package, *parts])
            if path.stat().st_size and name not in left_out and parts[:1] not in (["cli"], ["recipe"], ["__main__"]):
                assert name in described


def test_the_page_of_commands_has_all_their_options():
    page = render.command_line()
    assert page.count("## hf-vits ") == len(COMMANDS)
    for option in ("--neighbours", "--original-config", "--skip-unreadable", "--private"):
        assert option in page


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks" / "results").glob("*.yaml")), ids=lambda path: path.stem)
def test_measured_results_are_complete_and_shown(path):
    data = yaml.safe_load(path.read_text())
    assert {"device", "dtype", "date", "versions"} <= data["measured"].keys()
    assert all(row.keys() - {"name"} <= data["columns"].keys() for row in data["rows"])
    assert any(f"<!-- insert results {path.stem} -->" in page for page in PAGES.values())
    table = render.results(path.stem)
    assert all(row["name"] in table for row in data["rows"])
    assert data["command"] in table


def test_pictures_are_small_and_each_is_shown():
    folder = ROOT / "docs" / "pictures"
    shown = [name for run in yaml.safe_load((folder / "pictures.yaml").read_text()) for name in run["pictures"]]
    assert sorted(shown) == sorted(path.name for path in folder.glob("*.png"))
    assert sum(path.stat().st_size for path in folder.glob("*.png")) < 1.5e6
    for name in shown:
        Image.open(folder / name).verify()


def test_unknown_inserts_and_headings_are_errors():
    with pytest.raises(ValueError, match="'tabel' is none of architectures"):
        render.insert("text\n<!-- insert tabel -->\n")
    with pytest.raises(ValueError, match="there is no heading 'Nothing'; the headings are"):
        render.insert("<!-- insert contributing Nothing -->")


def test_links_of_the_root_become_links_of_the_site_or_plain_text():
    text = "[card](model_cards/vit.md) [start](docs/start.md) [recipes](recipes) [paper](https://arxiv.org/abs/1)"
    wanted = "[card](../cards/vit.md) [start](../start.md) recipes [paper](https://arxiv.org/abs/1)"
    assert render.relinked(text, "../") == wanted
