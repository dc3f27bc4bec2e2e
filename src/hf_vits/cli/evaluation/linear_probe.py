"""Accuracy of a linear classifier on frozen features."""

import argparse
from dataclasses import replace
from typing import Any

from ..numbers import positive
from .features import features_of, show

LAYERS = {"mae": 1, "dino": 4}
FACTORS = (1, 10, 100)  # times the original's learning rate: small datasets have few steps and need more
OPTIONS = {"probe": "dino", "layers": None, "patch_mean": False, "epochs": None, "learning_rate": None}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--probe", choices=LAYERS, help="settings of this original (default: dino)")
    parser.add_argument(
        "--layers",
        type=positive,
        metavar="N",
        help="number of last layers to take features from (default: dino 4, mae 1)",
    )
    parser.add_argument("--patch-mean", action="store_true", help="add the mean of the last layer's patch tokens")
    parser.add_argument("--epochs", type=positive, metavar="N", help="(default: dino 100, mae 90)")
    parser.add_argument(
        "--learning-rate",
        type=float,
        nargs="+",
        metavar="LR",
        help="per 256 images; one classifier for each (default: dino 0.001 0.01 0.1, mae 0.1 1 10)",
    )


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
    from hf_vits.evaluation.linear_probe import SETTINGS, accuracy, train_probe

    settings = SETTINGS[args.probe]
    settings = replace(settings, epochs=args.epochs or settings.epochs)
    rates = args.learning_rate or [factor * settings.learning_rate for factor in FACTORS]
    if min(rates) <= 0:
        raise ValueError(f"--learning-rate must be above 0, got {min(rates):g}")
    layers = args.layers or LAYERS[args.probe]
    features = features_of(args, layers, args.patch_mean)
    rows = []
    for rate in rates:
        chosen = replace(settings, learning_rate=rate)
        probe = train_probe(features.train, features.train_labels, features.num_classes, chosen)
        rows.append({"learning_rate": rate, **accuracy(probe, features.test, features.test_labels)})
    return {
        **features.facts,
        "probe": args.probe,
        "layers": layers,
        "patch_mean": args.patch_mean,
        "epochs": settings.epochs,
        "results": rows,
    }


__all__ = ["OPTIONS", "configure", "evaluate", "show"]
