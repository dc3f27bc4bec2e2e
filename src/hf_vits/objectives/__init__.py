"""Losses as modules over tensors: each call returns a scalar loss and a dict of values worth logging."""

from hf_vits.objectives.classification import BinaryCrossEntropy, CoSubLoss, CrossEntropy, SigmoidCrossEntropy
from hf_vits.objectives.distillation import DistillationLoss

__all__ = ["BinaryCrossEntropy", "CoSubLoss", "CrossEntropy", "DistillationLoss", "SigmoidCrossEntropy"]
