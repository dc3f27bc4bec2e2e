"""The tasks that recipes can train: every module of this folder is one and holds it as `TASK`.

A module is named as transformers names the pipeline for the task, with underscores for hyphens.
"""

import importlib
import pkgutil

from ..task import Task

TASKS = tuple(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__))


def load(name: str) -> Task:
    """Return the task of that name.

    Raises:
        ValueError: it is none of `TASKS`.
        ImportError: a package is missing that only this task needs.
    """
    if name not in TASKS:
        raise ValueError(f"task must be one of {', '.join(TASKS)}, got {name!r}")
    try:
        return importlib.import_module(f".{name.replace('-', '_')}", __package__).TASK
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        extra = "video" if name.startswith("video") or package == "av" else "audio"
        raise ImportError(f"{name} needs the package {package}: pip install 'hf_vits[{extra}]'") from error


__all__ = ["TASKS", "load"]
