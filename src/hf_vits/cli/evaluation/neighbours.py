"""Accuracy of k nearest neighbours on frozen features."""

import argparse
from typing import Any

from ..numbers import positive
from .features import features_of, show

DEFAULT = (10, 20, 100, 200)  # facebookresearch/dino, eval_knn.py
OPTIONS = {"neighbours": None, "temperature": 0.07}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--neighbours",
        type=positive,
        nargs="+",
        metavar="K",
        help="number of neighbours that vote (default: 10 20 100 200)",
    )
    parser.add_argument("--temperature", type=float, metavar="T", help="divisor of the similarities (default: 0.07)")


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
    from hf_vits.evaluation.neighbours import accuracies

    if args.temperature <= 0:
        raise ValueError(f"--temperature must be above 0, got {args.temperature:g}")
    features = features_of(args)
    asked = args.neighbours or [k for k in DEFAULT if k <= len(features.train)] or [len(features.train)]
    found = accuracies(*features[:4], asked, args.temperature)
    rows = [{"neighbours": k, **measured} for k, measured in found.items()]
    return {**features.facts, "temperature": args.temperature, "results": rows}


__all__ = ["OPTIONS", "configure", "evaluate", "show"]
