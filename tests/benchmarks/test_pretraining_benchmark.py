"""The pretraining benchmark, on sizes so small that nothing depends on the speed of the machine."""

import json
import sys

import datasets
import pytest
import torch
from rich.console import Console

from benchmarks import pretraining
from benchmarks.originals import definitions
from benchmarks.pretraining_steps import METHODS, Sizes

TINY = Sizes(
    batch=2,
    local_views=1,
    image_size=32,
    local_size=16,
    vit={"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16},
    num_prototypes=8,
)
SCRIPT = """
import torch
import not_installed_anywhere
import utils
from datasets import folders
from not_installed_anywhere import decorate

raise RuntimeError("is not run")


@decorate
def step():
    return utils.SIZE + len(folders())
"""


def test_an_originals_functions_are_taken_out_of_its_script(tmp_path):
    """Modules of libraries with the same names stay imported in this process."""
    (tmp_path / "main.py").write_text(SCRIPT)
    (tmp_path / "utils.py").write_text("SIZE = 3\n")
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "__init__.py").write_text("def folders():\n    return ['one']\n")
    code = definitions(tmp_path, "main.py", decorate=lambda function: function)
    assert code.step() == 4
    assert sys.modules["datasets"] is datasets
    assert "utils" not in sys.modules
    assert str(tmp_path) not in sys.path
    with pytest.raises(FileNotFoundError, match=r"clone https://github\.com/"):
        definitions(tmp_path, "other.py")


# EsViT's Swin-T and SFC's ResNet-18 are not tiny.
@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("esvit", "sfc")])
def test_our_steps_train(name):
    step = METHODS[name].ours(TINY)
    step()
    step()


def test_views_are_the_same_for_all():
    views, listed = TINY.views(), TINY.list_of_views()
    assert [view.shape for view in listed] == [(2, 3, 32, 32), (2, 3, 32, 32), (2, 3, 16, 16)]
    assert views["pixel_values"].shape == (2, 2, 3, 32, 32)
    assert Sizes(local_views=0).views().keys() == {"pixel_values"}
    masks = Sizes().masks()
    assert masks.shape == (8, 2, 14, 14)
    assert 0.05 < masks.float().mean() < 0.3
    assert torch.equal(masks, Sizes().masks())


def test_rows_are_written_and_shown(tmp_path):
    path, console = tmp_path / "rows.json", Console(record=True, width=200)
    chosen = ["--only", "mae", "--only", "mae encoder", "--only", "dino", "--originals", str(tmp_path / "none")]
    arguments = pretraining.parse_arguments([*chosen, "--seconds", "0", "--json", str(path)])
    rows = pretraining.run(arguments, console, TINY)
    console.print(pretraining.table(rows, "tiny"))
    assert json.loads(path.read_text()) == rows
    assert [(row["method"], list(row["peers_ms"])) for row in rows] == [
        ("mae", ["transformers"]),
        ("mae encoder", ["all patches"]),
    ]
    for row in rows:
        (peer,) = row["peers_ms"]
        assert row["ratio"] == pytest.approx(row["ours_ms"] / row["peers_ms"][peer])
        assert row["peers_mib"].keys() == {peer}
    shown = console.export_text()
    assert "dino: left out, as facebookresearch/dino is not in --originals" in shown
    assert "all patches" in shown
