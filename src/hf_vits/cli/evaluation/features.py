"""Features of a training split and a split to measure on, for the methods that learn from features."""

import argparse
from typing import Any, NamedTuple

from .data import load_recipe_of, load_splits


class Features(NamedTuple):
    """Features (images, channels) and labels (images,) of both splits, and facts for the report."""

    train: Any
    train_labels: Any
    test: Any
    test_labels: Any
    num_classes: int
    facts: dict[str, Any]


def features_of(args: argparse.Namespace, num_layers: int = 1, patch_mean: bool = False) -> Features:
    """Compute the features of the frozen encoder of MODEL for both splits of DATA, in memory."""
    from torch.utils.data import DataLoader

    from hf_vits.evaluation.features import extract
    from hf_vits.training import tasks

    if args.split == "train":
        raise ValueError(f"--method {args.method} learns from the training split; measure it on validation or test")
    encoder, processor = load_encoder_of(args.model)
    task, recipe = tasks.load("image-classification"), load_recipe_of(args.data)
    splits = load_splits(args, recipe)
    found = []
    for split in (splits.train, getattr(splits, args.split)):
        images = task.evaluation_set(recipe, encoder, processor, split)
        found += extract(encoder, DataLoader(images, args.batch_size), num_layers, patch_mean)
    facts = {
        "model": args.model,
        "data": f"{splits.name}, {args.split}",
        "method": args.method,
        "train_images": len(found[0]),
        "images": len(found[2]),
        "channels": found[0].shape[1],
    }
    return Features(*found, num_classes=len(splits.class_names), facts=facts)


def load_encoder_of(source: str):
    """Load the encoder of a model, onto the accelerator if there is one, and its image processor."""
    from hf_vits.evaluation.features import load_encoder

    from ..models import check_source, load_image_processor, on_accelerator

    check_source(source)
    return on_accelerator(load_encoder(source)), load_image_processor(source)


def show(result: dict[str, Any]) -> None:
    """Print the result of a method that learns from features."""
    from ..tables import print_facts, print_table

    print_facts((name, value) for name, value in result.items() if name != "results")
    print_table(result["results"][0], (row.values() for row in result["results"]))
