"""Original checkpoints for tests: the weights of the golden cases, and damage done to tensors."""

import importlib
from unittest.mock import patch

import torch

from tests.parity.golden import Case
from tests.support.paths import PARITY_CASES


class Captured(Exception):
    """What `convert` was called with."""


def conversion_of(name: str) -> tuple[tuple, dict]:
    """Return the arguments (system, variant, state dict) and overrides with which a golden case calls `convert`."""
    case = Case.load(PARITY_CASES / f"{name}.json")

    def capture(*arguments, **overrides):
        raise Captured(arguments, overrides)

    adapter, shared = (
        importlib.import_module(f"tests.parity.{module}") for module in (case.system, "self_distillation")
    )
    try:
        with patch.object(adapter, "convert", capture, create=True), patch.object(shared, "convert", capture):
            adapter.compute(case)
    except Captured as called:
        return called.args
    raise AssertionError(f"{name} converts nothing")


DAMAGES = {
    "no axis": lambda tensor: torch.tensor(1.0),
    "flat": lambda tensor: tensor.flatten(),
    "an axis more": lambda tensor: tensor[None],
    "an axis more at the end": lambda tensor: tensor[..., None],
    "an axis less": lambda tensor: tensor[0] if tensor.ndim and len(tensor) else tensor,
    "empty": lambda tensor: tensor[:0] if tensor.ndim else tensor,
    "twice as long": lambda tensor: torch.cat([tensor, tensor]) if tensor.ndim else tensor,
}
