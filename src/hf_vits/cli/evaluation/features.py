"""What the methods share that learn from features: those of a training split and of one that is measured."""

import argparse
from typing import Any, NamedTuple

from .data import load_recipe_of, load_splits


class Features(NamedTuple):
    """Features (images, channels) and labels (images,) of both splits, where the encoder is, and what to report."""

    train: Any
    train_labels: Any
    test: Any
    test_labels: Any
    num_classes: int
    facts: dict[str, Any]


def features_of(args: argparse.Namespace, num_layers: int = 1, patch_mean: bool = False) -> Features:
    """Those of the frozen encoder in MODEL, which may be of any kind, kept in memory and nowhere else."""
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
    """The encoder in a model, where it computes fastest, and its image processor."""
    import torch
    from transformers.utils import IMAGE_PROCESSOR_NAME

    from hf_vits.evaluation.features import load_encoder

    from ..models import check_source, load_processor

    check_source(source)
    encoder = load_encoder(source)
    processor = load_processor(source)
    if processor is None:
        raise FileNotFoundError(f"{source} has no {IMAGE_PROCESSOR_NAME}, so its preprocessing is not known")
    device = torch.accelerator.current_accelerator(check_available=True) or "cpu"
    return encoder.to(device), processor


def show(result: dict[str, Any]) -> None:
    from ..tables import print_facts, print_table

    print_facts((name, value) for name, value in result.items() if name != "results")
    print_table(result["results"][0], (row.values() for row in result["results"]))
