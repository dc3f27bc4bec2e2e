"""Mean IoU of clusters of patch tokens with masks."""

import argparse
from typing import Any

from ..numbers import positive
from .masks import dense_features_of, draw, show

OPTIONS = {"clusters": None, "dimensions": 50, "seeds": 5}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--clusters",
        type=positive,
        nargs="+",
        metavar="K",
        help="number of clusters (default: the number of classes). As many as classes are matched one to one "
        "(Hungarian), others each with the class of which it has most pixels",
    )
    parser.add_argument("--dimensions", type=positive, metavar="N", help="principal components (default: 50)")
    parser.add_argument("--seeds", type=positive, metavar="N", help="number of runs of k-means (default: 5)")


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
    import numpy as np

    from hf_vits.evaluation.segmentation import segment_by_clusters
    from hf_vits.figures.segments import as_classes

    splits = dense_features_of(args, learns=False)
    number = len(splits.class_names)
    rows, pictures = [], {}
    for clusters in args.clusters or [number]:
        found = [
            segment_by_clusters(splits.test, clusters, number, dimensions=args.dimensions, seed=seed)
            for seed in range(args.seeds)
        ]
        scores = [segmentation.measured.mean for segmentation in found]
        matching = "hungarian" if clusters == number else "precision"
        row = {"clusters": clusters, "matching": matching}
        rows.append(row | {"miou": float(np.mean(scores)), "miou_deviation": float(np.std(scores))})
        pictures[f"{clusters} clusters"] = as_classes(found[0].predictions, found[0].measured)
    draw(args, splits, pictures)
    return {**splits.facts, "dimensions": args.dimensions, "seeds": args.seeds, "results": rows}


__all__ = ["OPTIONS", "configure", "evaluate", "show"]
