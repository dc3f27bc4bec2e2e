"""The parts of the documentation that are written from code and data, as Markdown. Knows nothing of mkdocs."""

import argparse
import dataclasses
import inspect
import json
import os
import re
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from hf_vits import auto
from hf_vits.claims.page import page
from hf_vits.cli import COMMANDS, build_parser
from hf_vits.recipe import Recipe

ROOT = Path(__file__).resolve().parents[1]
SOURCES = {"hf_vits": ROOT / "src" / "hf_vits", "hf_vits.conversion": ROOT / "conversion"}

# Folder of the package: title of its page in the API, and what it is for.
ROOMS = {
    "models": (
        "Models",
        "Every architecture: its configuration, and the models that the Auto classes load.",
    ),
    "modeling": ("Base classes", "What all models share: configurations, outputs, task heads, registration."),
    "layers": ("Layers", "Building blocks that several architectures use. `fuse` folds batch norms for inference."),
    "pretraining": ("Pretraining", "Methods that learn without labels: a backbone and one or more objectives."),
    "objectives": ("Objectives", "Losses and masks as functions and modules of tensors. They know no model."),
    "processing": ("Processing", "Processors that turn images, videos and sound into a model's inputs."),
    "data": ("Data", "Where the inputs and labels of a run come from; `data.synthetic` makes its own."),
    "optim": ("Optimizers", "Optimizers, learning-rate schedules and weight averaging."),
    "evaluation": ("Evaluation", "A trained model measured on labelled data: accuracy, k-NN, linear probe, low-shot."),
    "analysis": (
        "Analysis",
        "What a trained model has learned: attention, label propagation, branch weights, robustness.",
    ),
    "figures": ("Figures", "Every picture that a run, an evaluation or an analysis draws."),
    "inspection": ("Inspection", "The report of `hf-vits inspect`: its sections, tables and page."),
    "app": ("App", "The page of `hf-vits demo`, on which a model is tried in a browser."),
    "claims": ("Claims", "Claims of papers: the comparisons that decide them, their runs, verdicts and page."),
    "training": ("Training", "The training run: tasks, augmented inputs, Trainers and reports."),
    "recipe": ("Recipe", "Reading a recipe. Its keys are described [on their own page](../recipe-keys.md)."),
    "hub": ("Hub", "Model cards, self-contained code bundles, and the push to the Hub."),
    "deployment": ("Deployment", "Export to ONNX, and weights of eight bits."),
    "metrics": ("Metrics", "`evaluate` modules that load without a network."),
    "testing": ("Testing", "A Hub on the loopback interface, for tests and for the demo."),
    "conversion": ("Conversion", "Original checkpoints to models: reading, key mapping, processors."),
    "files": ("Files", "Reading and writing files with errors that name them; folders that one process uses."),
}
# Rooms whose modules are not simply those of a folder. The dataclasses of recipes have a page of their own.
MODULES = {
    "modeling": ["hf_vits.configuration", "hf_vits.modeling", "hf_vits.architecture", "hf_vits.auto"],
    "files": ["hf_vits.files", "hf_vits.folders", "hf_vits.parsing"],
    "recipe": ["hf_vits.recipe", "hf_vits.recipe.loading", "hf_vits.recipe.fields"],
}

ENTRY = re.compile(r"([a-z_]+(?:, [a-z_]+)*): (.*)")
RANGES = {
    "positive": "positive",
    "not_negative": "not negative",
    "share": "0 to 1",
    "fraction": "0 to 1",
    "duration": "duration",
}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


# Recipe keys


class Section(NamedTuple):
    """A section of a recipe: its dotted path ("" for the top), its dataclass, and whether it can be left out."""

    path: str
    cls: type
    optional: bool


def recipe_sections(cls: type = Recipe, path: str = "", optional: bool = False) -> Iterator[Section]:
    """Yield `cls` and, in the order of their fields, all sections below it."""
    yield Section(path, cls, optional)
    for field in dataclasses.fields(cls):
        if inner := section_class(cls, field.name):
            yield from recipe_sections(inner, f"{path}.{field.name}".lstrip("."), field.default is None)


def section_class(cls: type, name: str) -> type | None:
    """Return the dataclass of a field that is a section, else None."""
    hint = typing.get_type_hints(cls)[name]
    return next((member for member in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(member)), None)


def describe(cls: type) -> tuple[str, dict[str, str]]:
    """Return the summary of a recipe dataclass and {field: its description}, from the docstring."""
    lines = inspect.getdoc(cls).splitlines()
    if "Attributes:" in lines:
        start = lines.index("Attributes:")
        lines = lines[:start] + [line[4:] for line in lines[start + 1 :]]
    summary, entries, names = [], {}, []
    for line in lines:
        if match := ENTRY.fullmatch(line):
            names = match[1].split(", ")
            entries |= dict.fromkeys(names, match[2])
        elif names and line.startswith("    "):
            entries |= {name: f"{entries[name]} {line.strip()}" for name in names}
        else:
            names = []
            summary.append(line)
    return "\n".join(summary).strip(), entries


def type_of(cls: type, field: dataclasses.Field) -> str:
    """Return the type of a recipe key, with the values or the range that it allows."""
    hint = typing.get_type_hints(cls)[field.name]
    members = typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
    names = [name for member in members for name in member_names(member)]
    validators = field.metadata.get("validator", ())
    ranges = [RANGES[v.__name__] for v in validators if getattr(v, "__name__", None) in RANGES]
    return " or ".join(f"`{name}`" for name in names) + "".join(f", {text}" for text in ranges)


def member_names(hint: Any) -> list[str]:
    """Return one member of a union as YAML's words: `null`, the values of a Literal, or the name of the type."""
    if hint is type(None):
        return ["null"]
    if typing.get_origin(hint) is typing.Literal:
        return [str(value) for value in typing.get_args(hint)]
    return [hint.__name__ if typing.get_origin(hint) is None else str(hint).replace("typing.", "")]


def default_of(field: dataclasses.Field) -> str:
    """Return the default of a recipe key as YAML, or "required"."""
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    elif field.default is not dataclasses.MISSING:
        value = field.default
    else:
        return "required"
    if dataclasses.is_dataclass(value):
        value = dataclasses.asdict(value)
    if isinstance(value, list):
        value = [round(v, 4) if isinstance(v, float) else v for v in value]
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def recipe_keys() -> str:
    """Return a heading, a description and a table of keys for every section of a recipe."""
    parts = []
    for path, cls, optional in recipe_sections():
        summary, entries = describe(cls)
        title = f"`{path}`" if path else "Top level"
        parts.append(f"## {title} {{#{path.replace('.', '-') or 'top'}}}\n\n{summary}")
        if optional:
            parts.append("This section can be left out.")
        rows = []
        for field in dataclasses.fields(cls):
            if section_class(cls, field.name):
                inner = f"{path}.{field.name}".lstrip(".")
                default = {"required": "required", "`null`": "left out"}.get(default_of(field), "its own defaults")
                link = f"[`{inner}`](#{inner.replace('.', '-')})"
                rows.append((f"`{field.name}`", "section", default, f"{entries.get(field.name, 'See')} {link}."))
            else:
                rows.append((f"`{field.name}`", type_of(cls, field), default_of(field), entries[field.name]))
        parts.append(table(("key", "type", "default", "meaning"), rows))
    return "\n\n".join(parts)


# API


def modules(room: str) -> list[str]:
    """Return the dotted names of a room's modules that are not empty, the package first."""
    if room in MODULES:
        return MODULES[room]
    package = f"hf_vits.{room}"
    folder = SOURCES.get(package, SOURCES["hf_vits"] / room)
    found = []
    for path in sorted(folder.rglob("*.py")):
        parts = [part for part in path.relative_to(folder).with_suffix("").parts if part != "__init__"]
        if path.stat().st_size:
            found.append(".".join([package, *parts]))
    return found


def api_page(room: str) -> str:
    """Return the page of one room: what mkdocstrings shall describe."""
    title, purpose = ROOMS[room]
    described = "\n\n".join(api_of_models() if room == "models" else map(api_of_module, modules(room)))
    return f"# {title}\n\n{purpose}\n\n{described}\n"


def api_of_module(name: str) -> str:
    return f"::: {name}\n    options: {{heading_level: 2}}\n"


def api_of_models() -> Iterator[str]:
    """Yield the configuration and the models of every registered architecture below `hf_vits.models`."""
    for row in auto.ROWS:
        if row.package.startswith("hf_vits.models."):
            yield f"## {row.config.removesuffix('Config')}"
            yield f"::: {row.config_module()}.{row.config}\n"
            for model in row.models.values():
                yield f"::: {row.model_module()}.{model}\n"


def api_index() -> str:
    """Return the page that lists the rooms."""
    rows = [(f"[{title}]({room}.md)", f"`hf_vits.{room}`", text) for room, (title, text) in ROOMS.items()]
    return "# API by room\n\n" + table(("room", "package", "what it is for"), rows) + "\n"


# Command line


def command_line() -> str:
    """Return the help text of every command of `hf-vits`."""
    os.environ["COLUMNS"] = "100"
    parts = []
    for command, (_, summary) in COMMANDS.items():
        parser = build_parser([command])
        (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
        text = commands.choices[command].format_help()
        parts.append(f"## hf-vits {command}\n\n{summary[0].upper()}{summary[1:]}.\n\n```text\n{text}```")
    return "\n\n".join(parts)


# Data


def results(name: str) -> str:
    """Return the tables of `benchmarks/results/<name>.yaml`, each with its command and its circumstances."""
    data = yaml.safe_load((ROOT / "benchmarks" / "results" / f"{name}.yaml").read_text(encoding="utf-8"))
    place = "Measured on {device} in {dtype}, {date}; versions of the libraries: {versions}.".format(
        **data["measured"]
    )
    columns = data["columns"]
    rows = [[row["name"], *(cell(row.get(column)) for column in columns)] for row in data["rows"]]
    head = [data["subject"], *columns.values()]
    command = f"```sh\n{data['command']}\n```"
    return f"{table(head, rows)}\n\n{place}\n\n{command}"


def cell(value: Any) -> str:
    """Return a measured value: a ratio with what it was measured from, or a number, or nothing where there is none."""
    if value is None:
        return ""
    if isinstance(value, dict):
        measured = ", ".join(f"{v} {unit}" for unit, v in value.items() if unit != "ratio")
        return f"{value['ratio']:.2f}" + (f" ({measured})" if measured else "")
    if isinstance(value, list):
        return " / ".join(map(str, value))
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def pictures() -> str:
    """Return every picture of `docs/pictures/pictures.yaml` with what it shows and the command that drew it."""
    parts = []
    for run in yaml.safe_load((ROOT / "docs" / "pictures" / "pictures.yaml").read_text(encoding="utf-8")):
        for name, picture in run["pictures"].items():
            parts.append(f"![{picture['says']}](pictures/{name})\n\n{picture['says']}")
        parts.append(f"```sh\n{wrapped(run['command'])}\n```")
    return "\n\n".join(parts)


def wrapped(command: str, width: int = 88) -> str:
    """Return a command in lines of at most `width` characters where its words allow it."""
    lines = [""]
    for word in command.split(" "):
        if lines[-1] and len(lines[-1]) + len(word) > width:
            lines.append("   ")
        lines[-1] += f" {word}" if lines[-1] else word
    return " \\\n".join(lines)


# Files of the repository as pages


def section(text: str, heading: str) -> str:
    """Return what is below a `##` heading of a Markdown text, without the heading.

    Raises:
        ValueError: there is no such heading.
    """
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, flags=re.DOTALL | re.MULTILINE)
    if found is None:
        raise ValueError(f"there is no heading {heading!r}; the headings are {re.findall(r'^## (.*)', text, re.M)}")
    return found[1].strip()


def architectures() -> str:
    """Return README's table of architectures, its cards being the pages of this site."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- architectures -->\n(.*?)<!-- end -->", readme, flags=re.DOTALL)
    if found is None:
        raise ValueError("README.md has no table between <!-- architectures --> and <!-- end -->")
    return relinked(found[1].strip(), "")


def relinked(text: str, up: str) -> str:
    """Return Markdown of the repository's root for a page `up` from the site's root: links lead to pages, or go."""

    def replace(match: re.Match) -> str:
        title, target = match[1], match[2]
        if target.startswith(("http:", "https:", "#")):
            return match[0]
        if target.startswith("model_cards/"):
            return f"[{title}]({up}cards/{target.removeprefix('model_cards/')})"
        if target.startswith("docs/"):
            return f"[{title}]({up}{target.removeprefix('docs/')})"
        pages = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md", "README.md": "index.md"}
        return f"[{title}]({up}{pages[target]})" if target in pages else title

    return re.sub(r"(?<!!)\[([^\]\[]+)\]\(([^)\s]+)\)", replace, text)


def claims() -> str:
    """Return the verdicts on claims, with what was run and found for each."""
    return page(ROOT / "claims", "pictures/claims")


INSERTS = {
    "architectures": architectures,
    "claims": claims,
    "command-line": command_line,
    "pictures": pictures,
    "recipe-keys": recipe_keys,
    "results": results,
    "contributing": lambda heading: section((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), heading),
}


def insert(text: str) -> str:
    """Fill in `<!-- insert KIND [ARGUMENT] -->`, KIND being a key of `INSERTS`.

    Raises:
        ValueError: an unknown KIND.
    """

    def replace(match: re.Match) -> str:
        kind, _, argument = match[1].partition(" ")
        if kind not in INSERTS:
            raise ValueError(f"<!-- insert {match[1]} -->: {kind!r} is none of {', '.join(INSERTS)}")
        return INSERTS[kind](*([argument] if argument else []))

    return re.sub(r"^<!-- insert (.+?) -->$", replace, text, flags=re.MULTILINE)
