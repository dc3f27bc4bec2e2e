"""What recipes can train: one module per task, by the name that transformers' pipelines give it."""

import importlib

from .task import FinishedRun, Task

TASKS = ("image-classification", "video-classification", "audio-classification", "automatic-speech-recognition")


def load(name: str) -> Task:
    """The task of that name, one of `TASKS`; its module holds it as TASK."""
    return importlib.import_module(f".{name.replace('-', '_')}", __package__).TASK


__all__ = ["TASKS", "FinishedRun", "Task", "load"]
