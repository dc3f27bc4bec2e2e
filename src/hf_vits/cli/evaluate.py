"""Measure an image classifier on labelled images: top-1, top-5, cross-entropy and the confusion matrix.

DATA is one of

  a folder       with a folder of images per class, named as the model names the class
  RECIPE.yaml    the data of a training recipe; --split says which part, by default the test images it held out
  digits         all of scikit-learn's 1,797 scanned digits, those that a model was trained on included
  a name         of a dataset that datasets.load_dataset loads; --split says which part

  hf-vits evaluate runs/demo_digits recipes/demo_digits.yaml
  hf-vits evaluate user/cct-cifar10 uoft-cs/cifar10 --split test --json
  hf-vits evaluate runs/flowers photos/test --figure confusion.png
"""

import argparse
from pathlib import Path
from typing import Any

from .predict import positive

_MOST_SHOWN_CLASSES = 20


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="folder or Hub repository")
    parser.add_argument("data", metavar="DATA", help="folder, recipe, `digits` or name of a dataset")
    parser.add_argument("--split", choices=("train", "validation", "test"), default="test", help="(default: test)")
    parser.add_argument("--config", metavar="NAME", help="configuration of a dataset that has several")
    parser.add_argument("--batch-size", type=positive, default=64, metavar="N", help="images at a time (default: 64)")
    parser.add_argument("--skip-unreadable", action="store_true", help="leave out files that cannot be decoded")
    parser.add_argument("--figure", type=Path, metavar="PNG", help="draw the confusion matrix there")


def run(args: argparse.Namespace) -> dict[str, Any]:
    import numpy as np
    from transformers import EvalPrediction

    from hf_vits.training.evaluation import accuracy_metrics, confusion
    from hf_vits.training.figures import draw_confusion

    from .models import load_classifier

    model, processor = load_classifier(args.model)
    name, class_names, splits = load_images(args)
    labels = labels_of_model(model.config, class_names)[np.concatenate([split.labels for split in splits])]
    rankings, losses = rank_images(model, processor, splits, labels, args.batch_size)
    matrix = confusion(rankings, labels, model.config.num_labels)
    names = [model.config.id2label[index] for index in range(model.config.num_labels)]
    if args.figure:
        args.figure.parent.mkdir(parents=True, exist_ok=True)
        draw_confusion(matrix, names, args.figure)
    return {
        "model": args.model,
        "data": name,
        "images": len(labels),
        **accuracy_metrics(EvalPrediction(predictions=(rankings, losses), label_ids=labels)),
        "labels": names,
        "confusion_matrix": np.asarray(matrix).tolist(),
    }


def load_images(args: argparse.Namespace):
    """Name, class names and splits of what the arguments name."""
    from hf_vits.training.data import load_splits
    from hf_vits.training.recipe import DataRecipe, load_recipe

    path = Path(args.data)
    if path.suffix in (".yaml", ".yml"):
        splits = load_splits(load_recipe(path).data)
    elif args.data == "digits":
        splits = load_splits(DataRecipe(source="digits"))
        return splits.name, splits.class_names, [splits.train, splits.validation]
    elif path.is_dir():
        return load_class_folders(path, args.skip_unreadable)
    elif args.data.startswith((".", "/", "~")):
        raise FileNotFoundError(f"there is no folder {args.data}")
    else:
        splits = load_splits(DataRecipe(source="datasets", path=args.data, config=args.config))
    return f"{splits.name}, {args.split}", splits.class_names, [getattr(splits, args.split)]


def load_class_folders(folder: Path, skip_unreadable: bool):
    from hf_vits.training.data import FileImages, Split
    from hf_vits.training.folder import load_folder

    try:
        class_names, files = load_folder({"train": folder}, skip_unreadable)
    except OSError as error:
        error.add_note("For this command that is --skip-unreadable.")
        raise
    paths, labels = files["train"]
    return folder.name, class_names, [Split(FileImages(paths), labels)]


def labels_of_model(config, class_names: list[str]):
    """(len(class_names),) the model's class of each of the data's classes, by name.

    A model that was never told names, whose labels are LABEL_0, LABEL_1..., has the data's classes in their order.
    """
    import numpy as np

    if config.id2label == {index: f"LABEL_{index}" for index in range(len(class_names))}:
        return np.arange(len(class_names))
    if unknown := [name for name in class_names if name not in config.label2id]:
        raise ValueError(
            f"{len(unknown)} classes of the data are not among the model's: {', '.join(unknown[:8])}; the model has "
            f"{', '.join(list(config.label2id)[:8])}{', ...' if len(config.label2id) > 8 else ''}"
        )
    return np.array([config.label2id[name] for name in class_names])


def rank_images(model, processor, splits, labels, batch_size: int):
    """Most probable classes (images, <= 5) and cross-entropy (images,) of all images of the splits."""
    import torch
    from torch.utils.data import ConcatDataset, DataLoader
    from tqdm import tqdm

    from hf_vits.training.augmentation import EvaluationImages
    from hf_vits.training.evaluation import rank

    from .models import image_mode

    mode = image_mode(model)
    images = ConcatDataset([EvaluationImages(split, processor, mode) for split in splits])
    loader = DataLoader(images, batch_size=batch_size)
    truth = torch.from_numpy(labels).split(batch_size)
    rankings, losses = [], []
    with torch.inference_mode():
        for batch, true in zip(tqdm(loader, "Evaluating", unit="batch", disable=None), truth, strict=True):
            logits = model(batch["pixel_values"].to(model.device, model.dtype)).logits
            ranking, loss = rank(logits.float().cpu(), true)
            rankings.append(ranking)
            losses.append(loss)
    return torch.cat(rankings).numpy(), torch.cat(losses).numpy()


def show(result: dict[str, Any]) -> None:
    from .tables import print_facts, print_table

    labels, matrix = result["labels"], result["confusion_matrix"]
    print_facts((name, value) for name, value in result.items() if name not in ("labels", "confusion_matrix"))
    if len(labels) <= _MOST_SHOWN_CLASSES:
        rows = [(label, *counts) for label, counts in zip(labels, matrix, strict=True)]
        print_table(("true \\ predicted", *labels), rows, title="confusion matrix")
    elif mistakes := most_frequent_mistakes(labels, matrix):
        print_table(("class", "taken for", "images"), mistakes, title="most frequent mistakes")


def most_frequent_mistakes(labels: list[str], matrix: list[list[int]]) -> list[tuple[str, str, int]]:
    """(true class, predicted class, images), ten of them, the most frequent first."""
    mistakes = [
        (labels[row], labels[column], count)
        for row, counts in enumerate(matrix)
        for column, count in enumerate(counts)
        if count and row != column
    ]
    return sorted(mistakes, key=lambda mistake: -mistake[2])[:10]
