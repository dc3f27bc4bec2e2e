"""Patch tokens of images with masks, for the methods that segment, and their report."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .data import load_recipe_of
from .features import load_encoder_of, show

SIDE = 100  # pixels of the masks that predictions are compared with, as in Leopart
_SHOWN_IMAGES = 8


class DenseSplits(NamedTuple):
    """Dense features of the training split and of the split to measure on, and facts for the report."""

    train: Any
    test: Any
    class_names: list[str]
    facts: dict[str, Any]
    shown: Any  # pixel_values of the first test images
    processor: Any


def dense_features_of(args: argparse.Namespace, *, learns: bool = True) -> DenseSplits:
    """Compute the patch tokens of the frozen encoder of MODEL for both splits of DATA, in memory.

    Args:
        learns: whether the training split is needed; otherwise it is None.
    """
    import torch
    from torch.utils.data import DataLoader

    from hf_vits.configuration import pair
    from hf_vits.evaluation.dense_features import MaskedSamples, extract_dense

    if args.split != "test":
        raise ValueError(f"--method {args.method} is measured on the test split, got --split {args.split}")
    encoder, processor = load_encoder_of(args.model)
    splits = load_masked_data(args.data)
    size = args.image_size or max(pair(encoder.config.image_size))
    samples = {name: MaskedSamples(images, processor, encoder, size, SIDE) for name, images in splits.items()}
    found = {
        name: extract_dense(encoder, DataLoader(samples[name], args.batch_size)) if learns or name == "test" else None
        for name in samples
    }
    test: Any = found["test"]
    shown = [samples["test"][index]["pixel_values"] for index in range(min(_SHOWN_IMAGES, len(samples["test"])))]
    facts = {
        "model": args.model,
        "data": args.data,
        "method": args.method,
        "images": len(test.maps),
        "image_size": size,
        "patches": test.maps[0, 0].numel(),
        "classes": len(splits["test"].class_names),
    }
    names = list(splits["test"].class_names)
    return DenseSplits(found["train"], test, names, facts, torch.stack(shown), processor)


def load_masked_data(data: str):
    """Load the images with masks that DATA names: `scenes`, a recipe of them, or a folder."""
    from hf_vits.data.images.masked import load_masked
    from hf_vits.data.images.sources.scenes import folder_of
    from hf_vits.recipe import DataRecipe

    recipe = load_recipe_of(data)
    if recipe is not None and recipe.data.source != "scenes":
        raise ValueError(f"{data} has data of the source {recipe.data.source}, which has no masks; scenes has")
    if recipe is not None or data == "scenes":
        return load_masked(folder_of(DataRecipe(source="scenes") if recipe is None else recipe.data))
    if not Path(data).is_dir():
        raise FileNotFoundError(
            f"there is no folder {data}; images with masks are in a folder with train/images, train/masks, "
            "test/images and test/masks, or the synthetic `scenes`"
        )
    return load_masked(Path(data))


def draw(args: argparse.Namespace, splits: DenseSplits, predictions: Mapping[str, Any]) -> None:
    """Draw predictions {title: (images, side, side)} of the first test images beside the truth, if asked for."""
    from hf_vits.figures.segments import draw_segments

    if args.picture:
        number = len(splits.shown)
        cut = {title: classes[:number] for title, classes in predictions.items()}
        draw_segments(splits.shown, splits.test.masks[:number], cut, splits.processor, args.picture)


__all__ = ["SIDE", "DenseSplits", "dense_features_of", "draw", "load_masked_data", "show"]
