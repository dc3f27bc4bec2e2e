"""IoU of the classes of a model of semantic segmentation, on images with masks."""

import argparse
from pathlib import Path
from typing import Any

from .classification import labels_of_model
from .data import load_recipe_of

OPTIONS = {"figure": None}
_SHOWN = 6


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare no option: --figure, of --method classify, draws masks over some images."""


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
    import numpy as np
    import torch
    from torch.utils.data import DataLoader
    from tqdm import tqdm
    from transformers import AutoImageProcessor

    from hf_vits.data.images import image_mode
    from hf_vits.evaluation.segmenters import class_rows, measure, summarize
    from hf_vits.evaluation.sliding_window import segment
    from hf_vits.training.examples.masks import EvaluationMasks, collate

    from ..models import class_of, load_config, load_with

    model_class = class_of(load_config(args.model)).__name__
    if not model_class.endswith("ForSemanticSegmentation"):
        raise ValueError(
            f"{args.model} is a {model_class}, which segments no images; --method segmentation trains a head on its "
            "patch tokens"
        )
    model, processor = load_with(AutoImageProcessor, args.model)
    names = [model.config.id2label[index] for index in range(model.config.num_labels)]
    name, class_names, split = load_split(args, names)
    order = np.full(256, 255)
    order[: len(class_names)] = labels_of_model(model.config, class_names)
    loader = DataLoader(EvaluationMasks(split, processor, image_mode(model)), args.batch_size, collate_fn=collate)
    found = []
    with torch.inference_mode():
        for batch in tqdm(loader, "Evaluating", unit="batch", disable=None):
            images = [images.to(model.device, model.dtype) for images in batch["pixel_values"]]
            logits = [one for part in images for one in segment(model, part)]
            for one, mask in zip(logits, batch["masks"], strict=True):
                found.append(measure(one, torch.from_numpy(order[mask.numpy()]).to(model.device)))
    counts, losses = (torch.stack(parts).numpy() for parts in zip(*found, strict=True))
    scores, measured = summarize(counts, losses)
    if args.figure:
        draw(model, processor, split, order, args.figure)
    return {
        "model": args.model,
        "data": name,
        "method": "segment",
        "images": len(split),
        **scores,
        "classes": class_rows(measured, names),
    }


def load_split(args: argparse.Namespace, names: list[str]):
    """Return the name, class names and split of the images with masks that DATA names.

    Args:
        names: of the model's classes, which numbers of data without names of classes mean.
    """
    from hf_vits.data.images.masked import CLASSES
    from hf_vits.data.masks import SOURCES
    from hf_vits.recipe import DataRecipe
    from hf_vits.training import tasks

    recipe = load_recipe_of(args.data)
    if recipe is not None:
        splits = tasks.load("semantic-segmentation").load_splits(recipe.data)
        return f"{splits.name}, {args.split}", splits.class_names, getattr(splits, args.split)
    folder = Path(args.data)
    skip = {"skip_unreadable": args.skip_unreadable}
    if args.data == "scenes":
        source = DataRecipe(source="scenes")
    elif folder.is_dir():
        classes = None if (folder / CLASSES).is_file() else names
        source = DataRecipe(source="folder", path=args.data, classes=classes, **skip)
    elif args.data.startswith((".", "/", "~")):
        raise FileNotFoundError(f"there is no folder {args.data}")
    else:
        source = DataRecipe(source="datasets", path=args.data, config=args.config, classes=names, **skip)
    name, class_names, splits = SOURCES.load(source)
    split = splits.get(args.split) or (next(iter(splits.values())) if len(splits) == 1 else None)
    if split is None:
        raise ValueError(f"{name} has no split {args.split}, only {', '.join(splits)}: name one by --split")
    return f"{name}, {args.split}" if len(splits) > 1 else name, class_names, split


def draw(model, processor, split, order, figure: Path) -> None:
    """Draw some images with the known and the predicted classes over them."""
    from hf_vits.data.images import image_mode
    from hf_vits.evaluation.sliding_window import classes_of
    from hf_vits.figures.segments import Segmented, draw_overlays
    from hf_vits.processing.opening import to_mode
    from hf_vits.training.examples.selection import spaced_indices

    examples = []
    for index in spaced_indices(len(split), _SHOWN):
        image, mask = split.inputs[index]
        image = to_mode(image, image_mode(model))
        examples.append(Segmented(image, order[mask], classes_of(model, processor, image)))
    figure.parent.mkdir(parents=True, exist_ok=True)
    draw_overlays(examples, [model.config.id2label[index] for index in range(model.config.num_labels)], figure)


def show(result: dict[str, Any]) -> None:
    from ..tables import print_facts, print_table

    print_facts((name, value) for name, value in result.items() if name not in ("classes", "method"))
    print_table(tuple(result["classes"][0]), [tuple(row.values()) for row in result["classes"]])


__all__ = ["OPTIONS", "configure", "evaluate", "show"]
