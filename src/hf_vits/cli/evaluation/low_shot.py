"""Accuracy of a logistic regression on the frozen features of few images."""

import argparse
from typing import Any

from ..numbers import positive
from .features import features_of, show

OPTIONS = {"shots": (0.01, 0.1), "draws": 3, "penalty": 0.1}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--shots",
        type=shots,
        nargs="+",
        metavar="N",
        help="images per class, or N%% of them (default: 1%% 10%%)",
    )
    parser.add_argument(
        "--draws", type=positive, metavar="N", help="number of random draws of the images (default: 3)"
    )
    parser.add_argument("--penalty", type=float, metavar="L", help="weight of the squared L2 norm (default: 0.1)")


def shots(text: str) -> int | float:
    """Parse a number of images per class, or the fraction of the class."""
    if not text.endswith("%"):
        return positive(text)
    fraction = float(text[:-1]) / 100
    if not 0 < fraction <= 1:
        raise argparse.ArgumentTypeError(f"must be above 0% and at most 100%, got {text}")
    return fraction


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
    from hf_vits.evaluation.low_shot import accuracy

    if args.penalty <= 0:
        raise ValueError(f"--penalty must be above 0, got {args.penalty:g}")
    features = features_of(args)
    rows = []
    for number in args.shots:
        measured = accuracy(*features[:4], number, args.draws, args.penalty)
        rows.append({"shots": number if isinstance(number, int) else f"{100 * number:g}%", **measured})
    return {**features.facts, "draws": args.draws, "penalty": args.penalty, "results": rows}


__all__ = ["OPTIONS", "configure", "evaluate", "show"]
