"""Data sources by name: every module of a `sources` folder is one, named as recipes name it in data.source."""

import difflib
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path

from hf_vits.recipe import DataRecipe

# Settings that have a meaning for every source.
_COMMON = {"source", "validation_fraction", "test_fraction", "train_inputs", "sampler", "split_seed", "num_classes"}


class Sources:
    """The sources of one kind of data, imported when they are named.

    A source is a module with a function that takes a recipe's data section and returns `splits.Loaded`, and with
    READS, the settings of that section that it reads: names of fields, and "columns.<key>" for each key of
    data.columns. Settings that every source has in common (fractions, number of training inputs, seed, number of
    classes) are not listed.

    Args:
        package: dotted name of the folder that holds the modules.
        function: name of the function. A module without it is not one of these sources.
    """

    def __init__(self, package: str, function: str = "load"):
        self.package, self.function = package, function

    def names(self) -> list[str]:
        """Return the names of all sources, in alphabetical order."""
        return [name for name in self._modules() if hasattr(self._import(name), self.function)]

    def load(self, recipe: DataRecipe):
        """Return what the recipe's source loads, `splits.Loaded`.

        Raises:
            ValueError: as `find`, and for data that do not fit together.
            OSError: files are missing or cannot be read.
        """
        return self.find(recipe)(recipe)

    def find(self, recipe: DataRecipe) -> Callable:
        """Return the function that loads the recipe's source.

        Raises ValueError where there is no such source, or the recipe sets something that the source does not read.
        """
        module = self._import(recipe.source) if recipe.source in self._modules() else None
        load: Callable | None = getattr(module, self.function, None)
        if load is None:
            raise ValueError(self._unknown(recipe.source))
        _check_settings(recipe, module.READS)
        return load

    def _modules(self) -> list[str]:
        return sorted(module.name for module in pkgutil.iter_modules(importlib.import_module(self.package).__path__))

    def _import(self, name: str):
        return importlib.import_module(f"{self.package}.{name}")

    def _unknown(self, name: str) -> str:
        names = self.names()
        near = difflib.get_close_matches(name, names, n=2)
        hint = f"; did you mean {' or '.join(near)}?" if near else ";"
        return f"data.source: this task has no source {name!r}{hint} its sources are {', '.join(names)}"


def _check_settings(recipe: DataRecipe, read: tuple[str, ...]) -> None:
    """Raise ValueError for a setting other than its default that the source would ignore."""
    for field in fields(recipe):
        default = field.default if field.default_factory is MISSING else field.default_factory()
        value = getattr(recipe, field.name)
        if field.name == "columns":
            ignored = [f"columns.{key}" for key in value if f"columns.{key}" not in read]
        else:
            ignored = [] if value == default or field.name in (*_COMMON, *read) else [field.name]
        if ignored:
            settings = ", ".join(read) or "no settings of its own"
            raise ValueError(
                f"data.{ignored[0]}: the source {recipe.source} does not read it, only {settings}; leave it out"
            )


def required_path(recipe: DataRecipe, what: str) -> Path:
    """Return data.path, of which `what` says what it is; ValueError if the recipe has none."""
    if recipe.path is None:
        raise ValueError(f"data.source: {recipe.source} needs data.path, {what}")
    return Path(recipe.path)
