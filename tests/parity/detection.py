"""Golden cases of whole detectors, by the architecture of their backbone, whose maps are compared."""

import importlib

import torch

from .golden import Case


def compute(case: Case) -> dict[str, torch.Tensor]:
    architecture = case.path.stem.partition("_")[0]
    return importlib.import_module(f"tests.parity.{architecture}").compute_detection(case)
