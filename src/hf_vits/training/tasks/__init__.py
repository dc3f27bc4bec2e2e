"""What recipes can train: one module per task, by the name that transformers' pipelines give it."""

import importlib

from .task import FinishedRun, Task

TASKS = (
    "image-classification",
    "video-classification",
    "audio-classification",
    "automatic-speech-recognition",
    "pretraining",
)


def load(name: str) -> Task:
    """The task of that name, one of `TASKS`; its module holds it as TASK.

    Raises ImportError where a package is missing that only this task needs.
    """
    try:
        return importlib.import_module(f".{name.replace('-', '_')}", __package__).TASK
    except ModuleNotFoundError as error:
        extra = "video" if name.startswith("video") else "audio"
        raise ImportError(f"{name} needs the package {error.name}: pip install 'hf_vits[{extra}]'") from error


__all__ = ["TASKS", "FinishedRun", "Task", "load"]
