"""The best weights of a run by a metric of its evaluations, and the end of a run that no longer gets better."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from torch import nn
from transformers import TrainerCallback

from hf_vits.files import reading, writing
from hf_vits.optim.sharding import whole_weights

from .callbacks import unwrapped

BEST = "best_weights.pt"
# Ends of the names of metrics whose lowest value is the best.
_LOWER_IS_BETTER = ("loss", "error_rate", "mse", "mae")


class BestWeights(TrainerCallback):
    """Keeps the weights with the best value of a metric, those that were evaluated, in a file.

    The file records step and value, so that a run that was killed and resumed compares with what is really kept.

    Args:
        path: of the file.
        metric: name of a metric of the evaluations, without "eval_".
        patience: number of evaluations in a row without a better value after which training ends; None: never.
        average: EMA whose weights are evaluated in place of the model's; None: the model's own.
    """

    def __init__(self, path: Path, metric: str, patience: int | None = None, average: Any = None):
        self.path, self.metric, self.patience, self.average = path, metric, patience, average
        self.value: float | None = None

    def on_train_begin(self, args, state, control, **kwargs):
        if state.global_step == 0 and state.is_world_process_zero:
            self.path.unlink(missing_ok=True)  # of a run that saved no checkpoint
        elif state.global_step and self.path.is_file():
            self.value = self._read()["value"]

    def on_evaluate(self, args, state, control, metrics: Mapping[str, float], model=None, **kwargs):
        value = metrics.get(f"eval_{self.metric}")
        weights = whole_weights(self.average.model if self.average else unwrapped(model))
        if state.is_world_process_zero:
            if value is None:
                names = [key.removeprefix("eval_") for key in metrics if not key.endswith(("runtime", "_second"))]
                raise ValueError(f"output.best: the evaluations have no {self.metric}, only {', '.join(names)}")
            if self.value is None or is_better(self.metric, value, self.value):
                self.value = value
                self._write(state.global_step, weights)
        # Pretraining is evaluated by the main process alone.
        (stopped,) = broadcast_object_list([has_stopped(state.log_history, self.metric, self.patience)])
        if stopped:
            control.should_training_stop = True

    def _write(self, step: int, weights: Mapping[str, torch.Tensor]) -> None:
        partial = self.path.with_name(f".{self.path.name}.partial")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with writing(self.path):
            torch.save({"step": step, "value": self.value, "weights": weights}, partial)
            partial.replace(self.path)

    def _read(self) -> dict[str, Any]:
        with reading(self.path.parent, self.path.name):
            return torch.load(self.path, map_location="cpu", weights_only=True)

    def load(self, model: nn.Module) -> int:
        """Give a model the best weights and return their step.

        Raises:
            ValueError: the run was never evaluated.
        """
        if not self.path.is_file():
            raise ValueError("output.best: the run ended before its first evaluation; evaluate more often")
        stored = self._read()
        model.load_state_dict(stored["weights"])
        return stored["step"]


def is_better(metric: str, value: float, other: float) -> bool:
    """Return whether a value of a metric is better than another one."""
    return value < other if metric.endswith(_LOWER_IS_BETTER) else value > other


def has_stopped(history: Sequence[Mapping[str, Any]], metric: str | None, patience: int | None) -> bool:
    """Return whether the last `patience` evaluations of a Trainer's log are no better than one before them."""
    if metric is None or patience is None:
        return False
    best, since = None, 0
    for value in (entry[f"eval_{metric}"] for entry in history if f"eval_{metric}" in entry):
        if best is None or is_better(metric, value, best):
            best, since = value, 0
        else:
            since += 1
        if since >= patience:
            return True
    return False
