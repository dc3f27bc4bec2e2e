"""What is known about each architecture: papers, code, licence, and what its cards say first.

The facts of a system are in `<system>.yaml` of this folder. A file holds the fields of `Facts`, all but the optional
ones; `papers` is a list of the fields of `Paper`, `example` holds those of `Example`.
"""

import dataclasses
import json
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_vits.parsing import parse_yaml


@dataclass(frozen=True)
class Paper:
    """A paper that the architecture comes from.

    Attributes:
        title: its full title.
        arxiv: its number on arXiv, quoted in the file so that YAML does not read it as a number.
        bibtex: its BibTeX entry.
    """

    title: str
    arxiv: str
    bibtex: str


@dataclass(frozen=True)
class Example:
    """An example of a conversion, which the architecture's card shows as an `hf-vits convert` command.

    Attributes:
        variant: published name of the variant.
        checkpoint: name of the authors' file.
        folder: where the example writes the model; also the name of its repository.
        options: further options of the command.
    """

    variant: str
    checkpoint: str
    folder: str
    options: str = ""


@dataclass(frozen=True)
class Facts:
    """Facts about one architecture.

    Attributes:
        name: short name and forms, for the first column of README's table.
        title: full name, the heading of its card.
        summary: two or three sentences on what it is.
        task: the Hub's identifier of the task that its published models perform.
        papers: the paper first, then the papers of its descendants that the architecture covers.
        repositories: addresses of the authors' code; empty where the paper came without code.
        licence: the Hub's identifier of the licence of the authors' code and weights; "unknown" if they state none.
        tags: for the Hub's search, in addition to the modality and "hf_vits".
        example: an example of a conversion; None where there are no checkpoints.
        licence_note: what else a user has to know about the licence.
    """

    name: str
    title: str
    summary: str
    task: str
    papers: tuple[Paper, ...]
    repositories: tuple[str, ...]
    licence: str
    tags: tuple[str, ...]
    example: Example | None = None
    licence_note: str = ""


class FactFiles(Mapping[str, Facts]):
    """The facts in a folder, {system: facts}; each file is read when its facts are first asked for."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.loaded: dict[str, Facts] = {}

    def __getitem__(self, system: str) -> Facts:
        if system not in self.loaded:
            path = self.folder / f"{system}.yaml"
            if not path.is_file():
                raise KeyError(system)
            self.loaded[system] = read(path)
        return self.loaded[system]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(path.stem for path in self.folder.glob("*.yaml")))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def read(path: Path) -> Facts:
    """Read the facts of one file.

    Raises:
        ValueError: the file is no YAML mapping, or a field is missing, unknown or of another type; the message names
            the file and the field.
    """
    return build(Facts, parse_yaml(path.read_bytes(), str(path)), str(path))


def build(kind: type, value: Any, where: str) -> Any:
    """Return `value`, as YAML holds it, as an object of the type `kind`; `where` names it in error messages."""
    if isinstance(kind, types.UnionType):  # an optional field that is there
        kind = typing.get_args(kind)[0]
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{where} must be a list, got {value!r}")
        return tuple(build(typing.get_args(kind)[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if not dataclasses.is_dataclass(kind):
        if not isinstance(value, kind):
            raise ValueError(f"{where} must be a {kind.__name__}, got {value!r}; quote what YAML reads as a number")
        return value
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be a mapping with the fields of {kind.__name__}, got {value!r}")
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if unknown := [key for key in value if key not in fields]:
        raise ValueError(f"{where} has the unknown field {unknown[0]!r}; {kind.__name__} has {', '.join(fields)}")
    required = [name for name, field in fields.items() if field.default is dataclasses.MISSING]
    if missing := [name for name in required if name not in value]:
        raise ValueError(f"{where} lacks the field {missing[0]!r} of {kind.__name__}")
    return kind(**{key: build(fields[key].type, item, f"{where}: {key}") for key, item in value.items()})


# {system: {variant: {parameters, input, image_size}}}, generated by model_cards.generate
SIZES = "variants.json"
FACTS = FactFiles(Path(__file__).parent)


def variant_sizes() -> dict[str, dict[str, dict[str, Any]]]:
    """Return {system: {published variant: size}}, without importing the systems.

    A size has the number of `parameters`; `input`, what the model reads: image, clip, audio, text, arrays, or several
    of them; and `image_size`, the side of images or frames in pixels, a list [height, width] of other ones, or None.
    """
    return json.loads((FACTS.folder / SIZES).read_text(encoding="utf-8"))
