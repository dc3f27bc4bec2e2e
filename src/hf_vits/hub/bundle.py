"""A model's own code beside its weights, so that it loads where hf_vits is not installed.

transformers runs a repository's code under `trust_remote_code=True`, but of a module's imports it fetches only those
of the form `from .name import ...`, beside the module (`transformers/dynamic_module_utils.py`). So the modules that an
architecture needs are found by following its imports, and written side by side with their imports rewritten. The code
is read, never run.

It does not look again at the imports of a module that it has fetched, so a download that breaks in between leaves
modules that stay missing. Only the imports of the module that it is asked for are checked each time: so the modules
that an `auto_map` names import all that they need, also indirectly.
"""

import ast
import json
import os
import re
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from transformers import (
    BaseImageProcessor,
    BaseVideoProcessor,
    FeatureExtractionMixin,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)
from transformers.dynamic_module_utils import get_relative_import_files, get_relative_imports

from hf_vits import __version__
from hf_vits.auto import ROWS

PACKAGE = __name__.split(".")[0]
ROOT = Path(__file__).parents[1]
REMOTE = "transformers_modules."  # where transformers puts modules that came from a repository
# A video processor is an image processor too.
PROCESSORS = {
    BaseVideoProcessor: "AutoVideoProcessor",
    BaseImageProcessor: "AutoImageProcessor",
    FeatureExtractionMixin: "AutoFeatureExtractor",
    PreTrainedTokenizerBase: "AutoTokenizer",
    ProcessorMixin: "AutoProcessor",
}
JOINT_FILE, TOKENIZER_FILE = "processor_config.json", "tokenizer_config.json"
PROCESSOR_FILES = ("preprocessor_config.json", "video_preprocessor_config.json", JOINT_FILE, TOKENIZER_FILE)

_PARSING = threading.Lock()


def write_bundle(model: PreTrainedModel, folder: str | os.PathLike, processor: Any = None) -> list[str]:
    """Write the code of `model` and `processor` into `folder`, which holds them as `save_pretrained` left them.

    Their JSON files get the `auto_map` that leads the Auto classes to the code. A model that itself came from a
    repository with `trust_remote_code=True` gets the code of that repository.

    Args:
        model: of an architecture of hf_vits, or loaded with `trust_remote_code=True`.
        folder: existing folder with `config.json`.
        processor: processor, feature extractor or tokenizer saved there too, or a processor that joins several.
            Processors of transformers need no code and are left as they are.

    Returns:
        Names of the Python files written. For a model that only works where hf_vits is installed, the classes in these
        files import it, so that transformers asks users to install it.

    Raises:
        ValueError: the class is neither hf_vits' nor a repository's, or its code cannot be made self-contained.
    """
    folder = Path(folder)
    files: dict[str, str] = {}
    entries: set[str] = set()
    for owner, json_files, part in ((model, ("config.json",), None), *_parts(processor)):
        if type(owner).__module__.startswith("transformers."):
            continue
        references = _references(owner)
        entries |= {_entry_file(reference) for reference in references.values()}
        for name, text in _sources(owner, references.values()).items():
            if files.setdefault(name, text) != text:
                raise ValueError(
                    f"model and processor need different versions of {name}: load both the same way, with or without "
                    "trust_remote_code=True"
                )
        for name in json_files:
            if (folder / name).exists():
                _set_auto_map(folder / name, references, part)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    _check(folder, files)
    for name in entries:
        _name_all_modules(folder / name)
    return sorted(files)


def remove_bundle(folder: str | os.PathLike) -> None:
    """Remove the code and the `auto_map` that transformers itself may have written to a saved model's folder."""
    for path in Path(folder).glob("*.py"):
        path.unlink()
    for name in ("config.json", *PROCESSOR_FILES):
        if Path(folder, name).exists():
            _set_auto_map(Path(folder, name), {})
    joint = Path(folder, JOINT_FILE)
    for part, value in json.loads(joint.read_text(encoding="utf-8")).items() if joint.exists() else ():
        if isinstance(value, dict):
            _set_auto_map(joint, {}, part)


def collect(modules: Iterable[str]) -> dict[str, str]:
    """Return {file name: text} of the named modules of hf_vits and of all that they import from it, flattened."""
    origins: dict[str, str] = {}
    files: dict[str, str] = {}
    pending = sorted(set(modules))
    while pending:
        module = pending.pop()
        name = f"{_file_stem(module)}.py"
        if origins.setdefault(name, module) != module:
            raise ValueError(f"{module} and {origins[name]} would both become {name}: rename one of them")
        if name in files:
            continue
        text, imported = _flatten(module)
        files[name] = f"# Part of {PACKAGE} {__version__}: {module}\n{text}"
        pending += sorted(imported)
    return files


def _parts(processor: Any) -> Iterator[tuple[Any, tuple[str, ...], str | None]]:
    """Yield (object, files that may describe it, their key for it) of a processor and of the processors it joins."""
    if isinstance(processor, ProcessorMixin):
        yield processor, (JOINT_FILE,), None
        for name in processor.get_attributes():
            part = getattr(processor, name)
            is_tokenizer = isinstance(part, PreTrainedTokenizerBase)
            yield (part, (TOKENIZER_FILE,), None) if is_tokenizer else (part, (JOINT_FILE,), name)
    elif processor is not None:
        yield processor, PROCESSOR_FILES, None


def _references(owner: Any) -> dict[str, str]:
    """Return the `auto_map` of a model or processor: {Auto class: "module.Class"}.

    For a model it names every class of the architecture, so that its weights also load as backbone or without head.
    """
    own = f"{_file_stem(type(owner).__module__)}.{type(owner).__name__}"
    if not isinstance(owner, PreTrainedModel):
        return {_auto_class(owner): own}
    config_class = type(owner.config)
    if type(owner).__module__.startswith(REMOTE):
        known = getattr(owner.config, "auto_map", None) or {}
        return {auto_class: reference.split("--")[-1] for auto_class, reference in known.items()}
    references = {"AutoConfig": f"{_file_stem(config_class.__module__)}.{config_class.__name__}"}
    for row in ROWS:
        if row.config == config_class.__name__ and row.model_module() == type(owner).__module__:
            stem = _file_stem(row.model_module())
            return references | {auto_class: f"{stem}.{name}" for auto_class, name in row.models.items()}
    return references | {"AutoModel": own}


def _auto_class(processor: Any) -> str:
    known = getattr(type(processor), "_auto_class", None)  # set where the class came from a repository
    if known:
        return known
    for base, auto_class in PROCESSORS.items():
        if isinstance(processor, base):
            return auto_class
    raise ValueError(f"{type(processor).__name__} is none of {', '.join(base.__name__ for base in PROCESSORS)}")


def _sources(owner: Any, references: Iterable[str]) -> dict[str, str]:
    """Return {file name: text} of the modules that the class of `owner` and the classes in `references` need."""
    module = type(owner).__module__
    if module.startswith(f"{PACKAGE}."):
        classes = [type(owner), *([type(owner.config)] if hasattr(owner, "config") else [])]
        if getattr(owner, "needs_package", False):
            return {f"{_file_stem(cls.__module__)}.py": _from_package(cls) for cls in classes}
        return collect(cls.__module__ for cls in classes)
    if not module.startswith(REMOTE):
        raise ValueError(
            f"{type(owner).__name__} is defined in {module}, not in {PACKAGE}, which cannot bundle its code: pass "
            "bundle=False"
        )
    folder = Path(sys.modules[module].__file__).parent
    paths = {folder / _entry_file(reference) for reference in references}
    paths |= {Path(needed) for path in list(paths) for needed in get_relative_import_files(path)}
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(paths)}


def _from_package(cls: type) -> str:
    """Return the source of a class of the same name that inherits everything from the package's class.

    It is a subclass because transformers marks the classes that it loads from a repository, and saves their source
    with a model.
    """
    body, configuration = "pass", ""
    if issubclass(cls, PreTrainedModel):
        name = cls.config_class.__name__
        configuration = f"from .{_file_stem(cls.config_class.__module__)} import {name}\n"
        body = f"config_class = {name}"
    return (
        f'"""Needs {PACKAGE}, which holds the code of {cls.__name__} and of any backbone it may have."""\n\n'
        f"from {cls.__module__} import {cls.__name__} as Original\n\n{configuration}\n\n"
        f"class {cls.__name__}(Original):\n    {body}\n"
    )


def _flatten(module: str) -> tuple[str, set[str]]:
    """Return a module's source, its imports from hf_vits made one-level relative, and the names of these modules."""
    lines = _path(module).read_bytes().splitlines(keepends=True)
    imported: set[str] = set()
    edits = []
    for node in ast.walk(_parse(b"".join(lines))):
        if isinstance(node, ast.Import) and any(_is_ours(alias.name) for alias in node.names):
            raise ValueError(f"{module}, line {node.lineno}: write `from {PACKAGE}... import name`, to be bundled")
        if isinstance(node, ast.ImportFrom) and _is_ours(_target(node, module)):
            homes = _homes(node, module)
            imported |= set(homes)
            edits.append((node, homes))
    for node, homes in sorted(edits, key=lambda edit: edit[0].lineno, reverse=True):
        first, last = node.lineno - 1, node.end_lineno
        before, after = lines[first][: node.col_offset], lines[last - 1][node.end_col_offset :]
        segment = b"".join(lines[first:last])[node.col_offset : -len(after) or None]
        lines[first:last] = [before + _rewritten(segment, homes, before) + after]
    return b"".join(lines).decode(), imported


def _parse(source: bytes) -> ast.Module:
    """Return the syntax tree of `source`, one thread at a time.

    CPython 3.11 counts the depth of a tree for the whole interpreter (python/cpython issue 106905): where the garbage
    collector lets another thread parse in between, it raises SystemError.
    """
    with _PARSING:
        return ast.parse(source)


def _rewritten(segment: bytes, homes: dict[str, list[str]], indent: bytes) -> bytes:
    if len(homes) == 1:
        # Keeps the layout of long imports.
        return re.sub(rb"\Afrom\s+\S+\s+import", f"from .{_file_stem(next(iter(homes)))} import".encode(), segment)
    statements = (f"from .{_file_stem(home)} import {', '.join(names)}".encode() for home, names in homes.items())
    return (b"\n" + indent).join(statements)


def _homes(node: ast.ImportFrom, module: str) -> dict[str, list[str]]:
    """Return {defining module: ["name" or "name as other"]} for the names of an import statement."""
    homes: dict[str, list[str]] = {}
    for alias in node.names:
        home, name = _definition(_target(node, module), alias.name, f"{module}, line {node.lineno}")
        other = alias.asname or alias.name
        homes.setdefault(home, []).append(name if name == other else f"{name} as {other}")
    return homes


def _definition(target: str, name: str, where: str) -> tuple[str, str]:
    """Return (module, name) of the definition of `name` in `target`, following re-exports of packages."""
    path = _path(target)
    if path.name != "__init__.py":
        return target, name
    for node in _parse(path.read_bytes()).body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _definition(_target(node, f"{target}.__init__"), alias.name, where)
    raise ValueError(f"{where}: {target} defines no {name}; import it from the module that does, to be bundled")


def _target(node: ast.ImportFrom, module: str) -> str:
    """Return the absolute name of the module that an import statement in `module` names."""
    parent = module.split(".")[: -node.level] if node.level else []
    return ".".join([*parent, *([node.module] if node.module else [])])


def _is_ours(module: str) -> bool:
    return module.split(".")[0] == PACKAGE


def _path(module: str) -> Path:
    path = ROOT.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _file_stem(module: str) -> str:
    """Return a module's file name in a bundle, without ending: `layers_attention` for `hf_vits.layers.attention`."""
    parts = module.split(".")
    if not _is_ours(module) or parts[1] == "models":
        return parts[-1]
    return "_".join(parts[1:])


def _entry_file(reference: str) -> str:
    """Return the file of a reference "module.Class" of an `auto_map`."""
    return f"{reference.split('.')[0]}.py"


def _name_all_modules(path: Path) -> None:
    """Append imports, which are never run, of the modules that a module needs only indirectly."""
    needed = {Path(file).stem for file in get_relative_import_files(path)}
    if indirect := sorted(needed - {path.stem, *get_relative_imports(path)}):
        imports = "".join(f"    from .{name} import __name__\n" for name in indirect)
        with path.open("a", encoding="utf-8") as file:
            file.write(f"\n\nif False:  # names for transformers what else to download\n{imports}")


def _set_auto_map(path: Path, references: dict[str, str], part: str | None = None) -> None:
    """Replace the `auto_map` of a JSON file, or of its object under the key `part`."""
    data = json.loads(path.read_text(encoding="utf-8"))
    described = data if part is None else data[part]
    described.pop("auto_map", None)
    if references:
        # Of a tokenizer transformers wants two classes, the first being one without the library tokenizers.
        described["auto_map"] = {
            auto_class: [None, reference] if auto_class == "AutoTokenizer" else reference
            for auto_class, reference in references.items()
        }
    path.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _check(folder: Path, files: Iterable[str]) -> None:
    """Raise ValueError unless transformers' own parser of imports, which reads text, finds all imported files."""
    for name in files:
        missing = [needed for needed in get_relative_imports(folder / name) if not (folder / f"{needed}.py").exists()]
        if missing:
            raise ValueError(
                f"{name} is not self-contained: it still names {', '.join(missing)}. A line of text that reads like "
                "an import counts as one."
            )
