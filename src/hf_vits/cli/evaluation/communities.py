"""Mean IoU of fully unsupervised segmentation with masks."""

import argparse
from typing import Any

from ..numbers import positive
from .masks import dense_features_of, draw, show

OPTIONS = {"community_clusters": 149, "markov_time": 2.0, "edge_threshold": 0.09, "runs": 10}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--community-clusters", type=positive, metavar="K", help="clusters of the foreground (default: 149)"
    )
    parser.add_argument(
        "--markov-time", type=float, metavar="T", help="the larger, the fewer communities (default: 2)"
    )
    parser.add_argument(
        "--edge-threshold", type=float, metavar="W", help="how often neighbours must be, both ways (default: 0.09)"
    )
    parser.add_argument("--runs", type=positive, metavar="N", help="runs of the community detection (default: 10)")


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
    from hf_vits.evaluation.segmentation import segment_by_communities
    from hf_vits.figures.segments import as_classes

    if args.markov_time <= 0:
        raise ValueError(f"--markov-time must be above 0, got {args.markov_time:g}")
    splits = dense_features_of(args)
    found = segment_by_communities(
        splits.train,
        splits.test,
        len(splits.class_names),
        args.community_clusters,
        markov_time=args.markov_time,
        weight_threshold=args.edge_threshold,
        runs=args.runs,
    )
    first = found.segmentations[0]
    draw(args, splits, {"communities": as_classes(first.predictions, first.measured)})
    row = {
        "clusters": args.community_clusters,
        "communities": sum(found.num_communities) / len(found.num_communities),
        "miou": found.mean,
        "miou_deviation": found.deviation,
        "upper_bound": found.upper_bound,
        "foreground_jaccard": found.foreground.jaccard,
    }
    return {**splits.facts, "runs": args.runs, "results": [row]}


__all__ = ["OPTIONS", "configure", "evaluate", "show"]
