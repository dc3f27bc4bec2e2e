"""Mean IoU of a segmentation head on frozen patch tokens with masks."""

import argparse
from dataclasses import replace
from typing import Any

from ..numbers import positive
from .masks import SIDE, dense_features_of, draw, show

OPTIONS = {"head": "linear", "head_epochs": None, "head_rate": None}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--head", choices=("linear", "fcn"), help="(default: linear)")
    parser.add_argument("--head-epochs", type=positive, metavar="N", help="(default: linear 25, fcn 30)")
    parser.add_argument("--head-rate", type=float, metavar="LR", help="learning rate (default: 0.01)")


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
    from hf_vits.evaluation.mean_iou import mean_iou
    from hf_vits.evaluation.segmentation_head import SETTINGS, predict, train_head

    settings = SETTINGS[args.head]
    settings = replace(
        settings,
        epochs=args.head_epochs or settings.epochs,
        learning_rate=settings.learning_rate if args.head_rate is None else args.head_rate,
    )
    if settings.learning_rate <= 0:
        raise ValueError(f"--head-rate must be above 0, got {settings.learning_rate:g}")
    splits = dense_features_of(args)
    number = len(splits.class_names)
    head = train_head(splits.train.maps, splits.train.masks, number, args.head, settings, SIDE)
    predictions = predict(head, splits.test.maps, SIDE).cpu().numpy()
    measured = mean_iou(predictions, splits.test.masks.cpu().numpy(), number, number, None)
    draw(args, splits, {f"{args.head} head": predictions})
    row = {"head": args.head, "epochs": settings.epochs, "learning_rate": settings.learning_rate}
    return {**splits.facts, "iou": measured.iou.tolist(), "results": [row | {"miou": measured.mean}]}


__all__ = ["OPTIONS", "configure", "evaluate", "show"]
