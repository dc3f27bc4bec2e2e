"""The recipes that come with the package: listed with what they say of themselves, found by name, copied."""

import difflib
import re
import shutil
import textwrap
from dataclasses import dataclass
from pathlib import Path

from hf_vits.parsing import parse_yaml

_LONGEST = 250  # characters of a summary
SCHEMA = "recipe.schema.json"
# First line of a recipe, by which editors find the keys and their descriptions.
SCHEMA_LINE = f"# yaml-language-server: $schema={SCHEMA}"


@dataclass(frozen=True)
class ShippedRecipe:
    """A recipe of the package.

    Attributes:
        architecture: system of the model, or the pretrained model's name.
        data: name of the data source.
        summary: first sentences of the file's comment: what is trained, and what it reached.
    """

    name: str
    task: str
    architecture: str
    data: str
    summary: str


def folder() -> Path:
    """Return the folder of the recipes: inside an installed package, or beside the sources of a checkout."""
    package = Path(__file__).parents[1]
    for place in (package / "recipes", package.parents[1] / "recipes"):
        if place.is_dir():
            return place
    raise FileNotFoundError(f"{package} has no recipes: install hf_vits again")


def names() -> list[str]:
    """Return the names of all recipes in alphabetical order."""
    return sorted(path.stem for path in folder().glob("*.yaml"))


def find(name: str) -> Path:
    """Return the file of a recipe by its name.

    Raises:
        FileNotFoundError: there is no such recipe; the error names similar ones.
    """
    path = folder() / f"{name}.yaml"
    if not path.is_file():
        near = difflib.get_close_matches(name, names(), n=3)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise FileNotFoundError(
            f"there is no file and no recipe {name!r}; {hint}`hf-vits recipes` lists those of the package"
        )
    return path


def describe(name: str) -> ShippedRecipe:
    """Return what a recipe says of itself."""
    path = find(name)
    text = path.read_text(encoding="utf-8")
    values = parse_yaml(text.encode(), str(path))
    lines = [line for line in text.splitlines() if line.startswith("#") and line != SCHEMA_LINE]
    comment = " ".join(line.lstrip("# ") for line in lines)
    summary = textwrap.shorten(re.split(r"(?<=[.)]) (?=[A-Z])", comment.partition(" Source: ")[0])[0], _LONGEST)
    model = values["model"]
    return ShippedRecipe(
        name=name,
        task=values.get("task", "image-classification"),
        architecture=model.get("system") or str(model.get("pretrained")),
        data=values["data"]["source"],
        summary=summary,
    )


def copy(name: str, path: Path | None = None) -> Path:
    """Copy a recipe, by default to NAME.yaml in the current folder, with the schema beside it; return the new file.

    Raises:
        FileNotFoundError: there is no such recipe, or no such folder.
        FileExistsError: the file exists.
    """
    source = find(name)
    target = Path(f"{name}.yaml") if path is None else path
    if target.is_dir():
        target = target / f"{name}.yaml"
    if target.exists():
        raise FileExistsError(f"{target} exists: name another file")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {target.parent}")
    shutil.copyfile(source, target)
    shutil.copyfile(folder() / SCHEMA, target.parent / SCHEMA)
    return target
