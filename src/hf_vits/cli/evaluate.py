"""Measure a classifier on labelled images, videos or recordings: top-1, top-5, cross-entropy, the confusion matrix.

DATA is one of

  a folder       with a folder of files per class, named as the model names the class
  RECIPE.yaml    the data of a training recipe; --split says which part, by default the test part it held out. Of
                 videos it also says how many views are averaged; otherwise that is one
  digits         all of scikit-learn's 1,797 scanned digits, those that a model was trained on included
  a name         of a dataset that datasets.load_dataset loads; --split says which part

  hf-vits evaluate runs/demo_digits recipes/demo_digits.yaml
  hf-vits evaluate user/cct-cifar10 uoft-cs/cifar10 --split test --json
  hf-vits evaluate runs/flowers photos/test --figure confusion.png
  hf-vits evaluate runs/moving_digits_mvit recipes/moving_digits_mvit.yaml
"""

import argparse
from pathlib import Path
from typing import Any

from .predict import positive

# {end of a model's class name: task}
_TASKS = {
    "ForImageClassification": "image-classification",
    "ForImageClassificationWithTeacher": "image-classification",
    "ForVideoClassification": "video-classification",
    "ForAudioClassification": "audio-classification",
}
_MOST_SHOWN_CLASSES = 20
_IMAGES_PER_VIDEO = 8  # whose memory one takes, about


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="folder or Hub repository")
    parser.add_argument("data", metavar="DATA", help="folder, recipe, `digits` or name of a dataset")
    parser.add_argument("--split", choices=("train", "validation", "test"), default="test", help="(default: test)")
    parser.add_argument("--config", metavar="NAME", help="configuration of a dataset that has several")
    parser.add_argument(
        "--batch-size",
        type=positive,
        default=64,
        metavar="N",
        help="inputs at a time (default: 64; an eighth as many videos)",
    )
    parser.add_argument("--skip-unreadable", action="store_true", help="leave out files that cannot be decoded")
    parser.add_argument("--figure", type=Path, metavar="PNG", help="draw the confusion matrix there")


def run(args: argparse.Namespace) -> dict[str, Any]:
    import numpy as np
    from transformers import EvalPrediction

    from hf_vits.training.evaluation import accuracy_metrics, confusion
    from hf_vits.training.figures import draw_confusion

    from .models import load_with

    task = task_of(args.model)
    model, processor = load_with(task.auto_processor, args.model)
    recipe = load_recipe_of(args.data)
    name, class_names, splits = load_data(args, task, recipe)
    labels = labels_of_model(model.config, class_names)[np.concatenate([split.labels for split in splits])]
    datasets = [task.final_set(recipe, model, processor, split) for split in splits]
    batch_size = max(args.batch_size // _IMAGES_PER_VIDEO, 1) if task.noun == "video" else args.batch_size
    rankings, losses = rank_all(task, model, processor, datasets, labels, batch_size)
    matrix = confusion(rankings, labels, model.config.num_labels)
    names = [model.config.id2label[index] for index in range(model.config.num_labels)]
    if args.figure:
        args.figure.parent.mkdir(parents=True, exist_ok=True)
        draw_confusion(matrix, names, args.figure)
    return {
        "model": args.model,
        "data": name,
        f"{task.noun}s": len(labels),
        **accuracy_metrics(EvalPrediction(predictions=(rankings, losses), label_ids=labels)),
        "labels": names,
        "confusion_matrix": np.asarray(matrix).tolist(),
    }


def task_of(source: str):
    """What a classifier was trained for; ValueError for other models."""
    from hf_vits.training import tasks

    from .models import class_of, load_config

    name = class_of(load_config(source)).__name__
    for ending, task in _TASKS.items():
        if name.endswith(ending):
            return tasks.load(task)
    raise ValueError(f"{source} is a {name}, which has no classifier for images, videos or recordings")


def load_recipe_of(data: str):
    """The recipe that DATA is; None if it is none."""
    from hf_vits.training.recipe import load_recipe

    return load_recipe(Path(data)) if Path(data).suffix in (".yaml", ".yml") else None


def load_data(args: argparse.Namespace, task, recipe):
    """Name, class names and splits of what the arguments name."""
    from hf_vits.training.recipe import DataRecipe

    if recipe is not None:
        splits = task.load_splits(recipe.data)
    elif args.data == "digits":
        splits = task.load_splits(DataRecipe(source="digits"))
        return splits.name, splits.class_names, [splits.train, splits.validation]
    elif Path(args.data).is_dir():
        return load_class_folders(Path(args.data), task, args.skip_unreadable)
    elif args.data.startswith((".", "/", "~")):
        raise FileNotFoundError(f"there is no folder {args.data}")
    else:
        splits = task.load_splits(DataRecipe(source="datasets", path=args.data, config=args.config))
    return f"{splits.name}, {args.split}", splits.class_names, [getattr(splits, args.split)]


def load_class_folders(folder: Path, task, skip_unreadable: bool):
    from hf_vits.training.data import Split
    from hf_vits.training.folder import load_folder

    try:
        class_names, files = load_folder({"train": folder}, task.media, skip_unreadable)
    except OSError as error:
        error.add_note("For this command that is --skip-unreadable.")
        raise
    paths, labels = files["train"]
    return folder.name, class_names, [Split(task.files(paths), labels)]


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


def rank_all(task, model, processor, datasets, labels, batch_size: int):
    """Most probable classes (inputs, <= 5) and cross-entropy (inputs,) of all inputs of the data sets."""
    import torch
    from torch.utils.data import ConcatDataset, DataLoader
    from tqdm import tqdm

    from hf_vits.training.evaluation import rank
    from hf_vits.training.trainer import features_of

    loader = DataLoader(ConcatDataset(datasets), batch_size=batch_size, collate_fn=task.evaluation_collator(processor))
    truth = torch.from_numpy(labels).split(batch_size)
    rankings, losses = [], []
    with torch.inference_mode():
        for batch, true in zip(tqdm(loader, "Evaluating", unit="batch", disable=None), truth, strict=True):
            features = {name: to_model(value, model) for name, value in features_of(batch).items()}
            ranking, loss = rank(task.logits(model, features).float().cpu(), true)
            rankings.append(ranking)
            losses.append(loss)
    return torch.cat(rankings).numpy(), torch.cat(losses).numpy()


def to_model(value, model):
    """A tensor on the model's device; of floats, in the model's dtype."""
    return value.to(model.device, model.dtype if value.is_floating_point() else None)


def show(result: dict[str, Any]) -> None:
    from .tables import print_facts, print_table

    labels, matrix = result["labels"], result["confusion_matrix"]
    print_facts((name, value) for name, value in result.items() if name not in ("labels", "confusion_matrix"))
    if len(labels) <= _MOST_SHOWN_CLASSES:
        rows = [(label, *counts) for label, counts in zip(labels, matrix, strict=True)]
        print_table(("true \\ predicted", *labels), rows, title="confusion matrix")
    elif mistakes := most_frequent_mistakes(labels, matrix):
        print_table(("class", "taken for", "times"), mistakes, title="most frequent mistakes")


def most_frequent_mistakes(labels: list[str], matrix: list[list[int]]) -> list[tuple[str, str, int]]:
    """(true class, predicted class, times), ten of them, the most frequent first."""
    mistakes = [
        (labels[row], labels[column], count)
        for row, counts in enumerate(matrix)
        for column, count in enumerate(counts)
        if count and row != column
    ]
    return sorted(mistakes, key=lambda mistake: -mistake[2])[:10]
