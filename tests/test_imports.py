"""Imports between the rooms of the package run one way, from the command line down to layers."""

import ast
from pathlib import Path

import pytest

from .support.paths import ROOT

# From top to bottom: a module imports its own room and what is in a lower line, never one above or beside it.
ORDER = (
    {"cli", "demo"},
    {"app", "claims"},
    {"training", "testing", "inspection"},
    {"figures"},
    {"evaluation", "analysis", "deployment"},
    {"conversion", "data", "hub"},
    {"pretraining"},
    {"models", "objectives"},
    {"modeling", "processing", "optim"},
    {"layers", "recipe", "metrics"},
    {"configuration"},
    {"auto"},
    {"architecture", "files", "folders", "parsing"},
)
RANKS = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}
SOURCES = {"hf_vits": ROOT / "src" / "hf_vits", "hf_vits.conversion": ROOT / "conversion"}


def modules() -> dict[str, Path]:
    """Return {dotted name: file} of every module, packages under their `__init__`."""
    return {
        ".".join((package, *path.relative_to(folder).with_suffix("").parts)): path
        for package, folder in SOURCES.items()
        for path in folder.rglob("*.py")
    }


def imported(module: str, path: Path) -> set[str]:
    """Return the absolute names of everything of hf_vits that a module imports, functions' own imports included."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            parents = module.split(".")[: -node.level] if node.level else []
            source = ".".join([*parents, *([node.module] if node.module else [])])
            names |= {f"{source}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name for name in names if name.startswith("hf_vits.")}


def upward(module: str, path: Path) -> list[str]:
    """Return what a module imports from rooms that are not below its own."""
    room = module.split(".")[1]
    targets = {name: name.split(".")[1] for name in imported(module, path)}
    return sorted(
        f"{module} imports {name}"
        for name, target in targets.items()
        if target in RANKS and target != room and RANKS[target] <= RANKS[room]
    )


@pytest.mark.parametrize("source", SOURCES)
def test_every_module_is_in_a_room_with_a_place_in_the_order(source):
    rooms = {name.split(".")[1] for name in modules() if name.startswith(source)}
    assert rooms - {"__init__"} <= RANKS.keys()


def test_no_module_imports_upward():
    wrong = [line for name, path in modules().items() if name != "hf_vits.__init__" for line in upward(name, path)]
    assert not wrong, "\n".join(wrong)


def test_an_upward_import_is_found(tmp_path):
    path = tmp_path / "mlp.py"
    path.write_text("def f():\n    from ..models.vit.modeling_vit import ViTModel\n    from .. import recipe\n")
    assert upward("hf_vits.layers.mlp", path) == [
        "hf_vits.layers.mlp imports hf_vits.models.vit.modeling_vit.ViTModel",
        "hf_vits.layers.mlp imports hf_vits.recipe",
    ]
