"""Accuracy of the nearest class mean on frozen features."""

import argparse
from typing import Any

from .features import features_of, show

OPTIONS: dict[str, Any] = {}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add no options."""


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
    from hf_vits.evaluation.prototypes import class_means, classify

    features = features_of(args)
    prototypes = class_means(features.train, features.train_labels, features.num_classes)
    right = classify(features.test, prototypes) == features.test_labels
    return {**features.facts, "results": [{"classes": len(prototypes), "top1": right.double().mean().item()}]}


__all__ = ["OPTIONS", "configure", "evaluate", "show"]
