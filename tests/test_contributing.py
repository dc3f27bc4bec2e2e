"""CONTRIBUTING's example of a new architecture works: its files alone add Toy to a copy of the repository."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
# {path: content} of the files that the text shows: a path in backquotes, a colon, a block of code.
FILES = dict(
    re.findall(r"`([^`\s]+)`:\n\n```(?:python|yaml)\n(.*?)^```", CONTRIBUTING, flags=re.DOTALL | re.MULTILINE)
)
COPIED = ("src", "conversion", "tests", "model_cards", "README.md", "CONTRIBUTING.md")

# Run in the copy: each part prints `== <name>` first.
CHECKS = """
print("== model")
import torch
from transformers import AutoBackbone, AutoConfig, AutoModel, AutoModelForImageClassification

import hf_vits
from hf_vits import conversion

for auto_class in (AutoModel, AutoModelForImageClassification, AutoBackbone):
    model = auto_class.from_config(AutoConfig.for_model("hf_vits_toy"))
    assert type(model).__name__.startswith("Toy"), type(model)
torch.manual_seed(0)
original = AutoModelForImageClassification.from_config(AutoConfig.for_model("hf_vits_toy", num_labels=7)).eval()
names = {
    "model.embeddings.patch_embedding.projection": "patch_embed.proj",
    "model.embeddings.position_embedding.table": "pos_embed",
    "model.layers": "blocks",
    "model.norm": "norm",
    "classifier": "head",
    "attention_norm": "norm1",
    "attention.projection": "attn.proj",
    "attention.qkv": "attn.qkv",
    "mlp_norm": "norm2",
    "mlp.up": "mlp.fc1",
    "mlp.down": "mlp.fc2",
}
tensors = original.state_dict()
for ours, theirs in names.items():
    tensors = {key.replace(ours, theirs): tensor for key, tensor in tensors.items()}
model = conversion.convert("toy", "toy_tiny", tensors)
pixels = torch.rand(2, 3, 32, 32)
torch.testing.assert_close(model(pixels).logits, original(pixels).logits)
assert model.config.num_labels == 7
image = torch.full((3, 40, 48), 100, dtype=torch.uint8)
assert conversion.processor("toy", "toy_tiny", model)(image).pixel_values[0].shape == (3, 32, 32)

from tests.support.hub import tiny_model

assert tiny_model("toy").config.patch_size == 8
print("works")

print("== cards", flush=True)
import runpy

runpy.run_module("model_cards.generate", run_name="__main__")

print("== list", flush=True)
from hf_vits.cli import main

assert main(["list"]) == 0

print("== tests", flush=True)
import pytest

files = ["tests/conversion/test_sizes.py", "tests/test_imports.py", "tests/model_cards/test_generate.py"]
selected = "test_no_module or test_every_module or toy or up_to_date"
pytest.main(["-q", "--rootdir", ".", *files, "-k", selected])
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """Return the folder of a copy of the repository with the files of the text."""
    copy = tmp_path_factory.mktemp("repository")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "parity_cases")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, copy / name)
    for name, text in FILES.items():
        path = copy / name
        assert not path.exists(), f"{name} exists already"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (copy / "tests/models/toy/__init__.py").touch()
    # Installed, conversion is a subpackage.
    (copy / "src/hf_vits/conversion").symlink_to(copy / "conversion")
    return copy


@pytest.fixture(scope="module")
def printed(copy) -> dict[str, str]:
    """Return {part of CHECKS: what it printed} of one Python process in the copy."""
    environment = {**os.environ, "PYTHONPATH": f"{copy / 'src'}{os.pathsep}{copy}"}
    result = subprocess.run(
        [sys.executable, "-c", CHECKS], cwd=copy, env=environment, capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stdout + result.stderr
    _, *parts = re.split(r"^== (\w+)\n", result.stdout, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_the_example_is_complete():
    assert FILES.keys() == {
        "src/hf_vits/models/toy/__init__.py",
        "src/hf_vits/models/toy/configuration_toy.py",
        "src/hf_vits/models/toy/modeling_toy.py",
        "conversion/systems/toy.py",
        "src/hf_vits/hub/facts/toy.yaml",
        "model_cards/variants/toy.yaml",
        "tests/models/toy/forms.py",
    }


def test_auto_classes_build_it_conversion_works_and_the_tiny_form_is_found(printed):
    assert printed["model"] == "works\n"


def test_the_command_lists_it(printed):
    assert re.search(
        r"toy +Toy transformer +2 +image-classification +apache-2.0 +https://github.com/owner/toy", printed["list"]
    )


def test_cards_generate(copy, printed):
    """`make cards` writes the card, README's row and the number of variants, and changes nothing else."""
    written = {"model_cards/toy.md", "README.md", "src/hf_vits/hub/facts/variants.json"}
    assert set(printed["cards"].split()) == written
    card = (copy / "model_cards/toy.md").read_text(encoding="utf-8")
    for text in ("license: apache-2.0", "# Toy transformer", "`ToyBackbone`", "| `toy_tiny` | 32 |", "@misc{toy,"):
        assert text in card
    assert "hf-vits convert toy toy_tiny toy_tiny.pth toy-tiny --push-to-hub USER/toy-tiny" in card
    row = "| Toy | `toy` | 2 | [2001.00001](https://arxiv.org/abs/2001.00001) | [toy](https://github.com/owner/toy) |"
    assert row in (copy / "README.md").read_text(encoding="utf-8")


def test_the_shared_tests_find_it(printed):
    """Its sizes are right, imports keep their order, and the tests of cards pass."""
    assert re.search(r"\b9 passed", printed["tests"]), printed["tests"]
