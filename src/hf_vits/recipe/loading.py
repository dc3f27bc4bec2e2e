"""Reading recipes from YAML; every key and value is checked."""

import dataclasses
import difflib
import types
import typing
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError

from hf_vits.parsing import check_plain, parse_yaml

from . import library
from .recipe import Recipe

# {former name of a key: its present name}, each from the top of the recipe.
RENAMED = {
    "audio.spec_augment.time_share": "audio.spec_augment.time_fraction",
    "augmentation.mix_switch": "augmentation.cutmix_probability",
}

# {keys of a recipe: names that other libraries use for them}
_USUAL_NAMES = {
    ("train.length",): (
        "epochs",
        "num_epochs",
        "num_train_epochs",
        "max_steps",
        "steps",
    ),
    ("optimizer.learning_rate",): (
        "lr",
        "base_lr",
    ),
    ("train.batch_size",): (
        "batch",
        "bs",
        "per_device_train_batch_size",
        "train_batch_size",
    ),
    ("optimizer.weight_decay",): (
        "wd",
        "decay",
    ),
    ("schedule.warmup",): (
        "warmup_epochs",
        "warmup_steps",
        "num_warmup_steps",
    ),
    ("schedule.min_learning_rate",): (
        "min_lr",
        "lr_min",
    ),
    ("train.max_grad_norm",): (
        "clip_grad",
        "gradient_clipping",
        "grad_clip",
    ),
    ("train.accumulation",): (
        "accum_iter",
        "gradient_accumulation_steps",
        "grad_accum",
    ),
    ("train.workers",): (
        "num_workers",
        "dataloader_num_workers",
    ),
    ("objective.label_smoothing",): ("smoothing",),
    ("train.precision",): (
        "fp16",
        "amp",
        "mixed_precision",
    ),
    ("output.directory",): (
        "output_dir",
        "save_dir",
        "out_dir",
    ),
    (
        "data.source",
        "data.path",
    ): (
        "dataset",
        "data_dir",
        "root",
    ),
    (
        "model.system",
        "model.variant",
    ): (
        "arch",
        "architecture",
        "backbone",
    ),
    ("schedule.kind",): (
        "scheduler",
        "lr_scheduler_type",
    ),
    ("optimizer.name",): (
        "opt",
        "optim",
    ),
    ("train.ema_decay",): (
        "ema",
        "model_ema",
    ),
    ("train.early_stopping",): ("patience",),
    ("model.processor",): (
        "mean",
        "std",
        "image_mean",
        "image_std",
    ),
    ("model.config",): (
        "img_size",
        "input_size",
        "image_size",
    ),
}


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested sections as one dict, {"section.key": value}."""
    pairs = {}
    for key, value in values.items():
        if isinstance(value, dict):
            pairs |= flat(value, f"{prefix}{key}.")
        else:
            pairs[f"{prefix}{key}"] = value
    return pairs


def load_recipe(recipe: str | Path | dict[str, Any], overrides: typing.Iterable[str] = ()) -> Recipe:
    """Read a recipe from a YAML file, a dict or, by its name, from the package, and apply overrides.

    An override is a text such as `"train.batch_size=64"`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not YAML, a key does not exist (the error names similar ones), or a value is not
            allowed.
    """
    if isinstance(recipe, dict):
        values, name = recipe, "recipe"
    else:
        values, name = read_values(recipe), str(recipe)
    for override in overrides:
        values = _override(values, override, name)
    check_plain(values, name)
    _check_names(values, name)
    return build_section(Recipe, values, name)


def read_values(recipe: str | Path) -> Any:
    """Return what the YAML file of a recipe says, unchecked, by its path or, of the package, its name."""
    path = Path(recipe)
    if isinstance(recipe, str) and not path.is_file() and path.name == recipe and not path.suffix:
        path = library.find(recipe)
    return parse_yaml(path.read_bytes(), str(recipe))


def _override(values: Any, override: str, name: str) -> dict[str, Any]:
    """Return a copy of nested `values` with one `section.key=value` set."""
    path, separator, text = override.partition("=")
    if not separator or not path:
        raise ValueError(f"an override has the form section.key=value, got {override!r}")
    return with_value(values, path.strip(), parse_yaml(text, f"override {override[:100]!r}"), name)


def with_value(values: Any, path: str, value: Any, name: str) -> dict[str, Any]:
    """Return a copy of nested `values`, called `name` in errors, with the value at a path such as `train.seed` set."""
    if not isinstance(values, dict):
        raise ValueError(f"{name}: expected keys and values, got {values!r:.200}")
    *sections, key = path.split(".")
    values = target = dict(values)
    for section in sections:
        inner = target.get(section)
        if inner is not None and not isinstance(inner, dict):
            raise ValueError(f"override of {path!r}: {section} is a value, it has no keys")
        target[section] = target = dict(inner or {})
    target[key] = value
    return values


def _check_names(values: Any, where: str) -> None:
    """Raise ValueError for a key that has been renamed."""
    for old, new in RENAMED.items():
        *sections, key = old.split(".")
        section = values
        for name in sections:
            section = section.get(name) if isinstance(section, dict) else None
        if isinstance(section, dict) and key in section:
            raise ValueError(f"{where}: {old} is now called {new}")


def build_section(cls: type, values: Any, where: str) -> Any:
    """Return an instance of dataclass `cls` made from a mapping; `where` is its place, for error messages.

    Raises:
        ValueError: a key does not exist (the error names similar ones) or is missing, or a value is not allowed.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{where}: expected keys and values, got {values!r:.200}")
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for key in values:
        if key not in fields:
            usual = next((keys for keys, usual in _USUAL_NAMES.items() if key in usual), None)
            near = usual or difflib.get_close_matches(str(key), fields, n=2)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise ValueError(f"{where}: there is no key {key!r}{hint} The keys are: {', '.join(fields)}.")
    missing = [
        name
        for name, f in fields.items()
        if name not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"{where}: missing {', '.join(missing)}")
    hints = typing.get_type_hints(cls)
    arguments = {key: _value(hints[key], value, f"{where}: {key}") for key, value in values.items()}
    try:
        return cls(**arguments)
    except StrictDataclassError as error:
        raise ValueError(f"{where}: {' '.join(str(error).split())}") from error


def _value(hint: Any, value: Any, where: str) -> Any:
    """Return `value` converted to field type `hint`: mappings to dataclasses, numbers to floats or text."""
    members = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None:
        return None
    for member in members:
        if dataclasses.is_dataclass(member):
            return build_section(member, value, where)
        if member is float:
            return _as_float(value)
        if member == list[float] and isinstance(value, list):
            return [_as_float(v) for v in value]
        if typing.get_origin(member) is dict and isinstance(value, dict):
            _, inner = typing.get_args(member)
            if inner is float or dataclasses.is_dataclass(inner):
                return {str(key): _value(inner, v, f"{where}: {key}") for key, v in value.items()}
        if member is str and isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
    return value


def _as_float(value: Any) -> Any:
    """Return integers, and text such as 1e-3 that YAML 1.1 does not read as a number, as floats; others unchanged."""
    if isinstance(value, bool):
        return value
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return value
