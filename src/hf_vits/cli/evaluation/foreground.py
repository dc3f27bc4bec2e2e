"""IoU of the foreground that clusters of patch tokens find with the foreground of masks."""

import argparse
from typing import Any

from ..numbers import positive
from .masks import dense_features_of, draw, show

OPTIONS = {"foreground_clusters": 200}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--foreground-clusters", type=positive, metavar="K", help="number of clusters (default: 200)")


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
    from hf_vits.evaluation.segmentation import extract_foreground

    splits = dense_features_of(args)
    found = extract_foreground(splits.train, splits.test, args.foreground_clusters)
    draw(args, splits, {"foreground": found.test.astype(int)})
    row = {"clusters": args.foreground_clusters, "threshold": found.threshold}
    row |= {"jaccard": found.jaccard, "attention_jaccard": found.attention_jaccard}
    return {**splits.facts, "results": [row]}


__all__ = ["OPTIONS", "configure", "evaluate", "show"]
