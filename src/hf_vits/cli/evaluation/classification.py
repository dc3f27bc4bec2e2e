"""Accuracy of a trained classifier, or its scores where several classes of an input may be true."""

import argparse
from pathlib import Path
from typing import Any

from .data import load_data, load_recipe_of

# {end of a model's class name: task}
_TASKS = {
    "ForImageClassification": "image-classification",
    "ForImageClassificationWithTeacher": "image-classification",
    "ForVideoClassification": "video-classification",
    "ForAudioClassification": "audio-classification",
}
_MOST_SHOWN_CLASSES = 20
_IMAGES_PER_VIDEO = 8  # a video takes about the memory of so many images
OPTIONS = {"figure": None}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--figure",
        type=Path,
        metavar="PNG",
        help="draw the confusion matrix to this file; with --method exits, the curve",
    )


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
    import numpy as np
    from transformers import EvalPrediction

    from hf_vits.data.label_columns import is_multi_label
    from hf_vits.data.label_groups import heads_of
    from hf_vits.evaluation.accuracy import accuracy_metrics, confusion, labels_of_model, scores_of_classes
    from hf_vits.figures.runs import draw_confusion

    from ..models import load_with

    task = task_of(args.model)
    model, processor = load_with(task.auto_processor, args.model)
    recipe = load_recipe_of(args.data)
    name, class_names, splits = load_data(args, task, recipe)
    is_regression = model.config.problem_type == "regression"
    if is_regression != (recipe is not None and "targets" in recipe.data.columns):
        raise ValueError(
            f"{args.model} predicts {'numbers' if is_regression else 'classes'}, but the data have "
            f"{'classes: give a recipe with data.columns.targets' if is_regression else 'numbers'}"
        )
    order, labels = labels_of_model(model.config, class_names), np.concatenate([split.labels for split in splits])
    several = is_multi_label(labels) and not is_regression
    if several != (model.config.problem_type == "multi_label_classification"):
        kinds = ["one class", "several labels"]
        raise ValueError(
            f"{args.model} predicts {kinds[not several]} of each {task.noun}, but the data have {kinds[several]}"
        )
    if is_regression:
        labels = labels[:, np.argsort(order)]
    else:
        labels = multi_label_of_model(labels, order, model.config.num_labels) if several else order[labels]
    datasets = [task.final_set(recipe, model, processor, split) for split in splits]
    batch_size = max(args.batch_size // _IMAGES_PER_VIDEO, 1) if task.noun == "video" else args.batch_size
    if is_regression:
        return errors_of_numbers(args, name, task, model, (processor, datasets, labels, batch_size))
    if several:
        return several_labels(args, name, task, model, (processor, datasets, labels, batch_size))
    rankings, losses = rank_all(task, model, processor, datasets, labels, batch_size)
    heads = heads_of(model.config)
    matrix = confusion(rankings, labels, model.config.num_labels, heads)
    names = [model.config.id2label[index] for index in range(model.config.num_labels)]
    if args.figure:
        args.figure.parent.mkdir(parents=True, exist_ok=True)
        draw_confusion(matrix, names, args.figure)
    return {
        "model": args.model,
        "data": name,
        f"{task.noun}s": len(labels),
        **accuracy_metrics(EvalPrediction(predictions=(rankings, losses), label_ids=labels), heads),
        "labels": names,
        "classes": [{"class": label, **row} for label, row in zip(names, scores_of_classes(matrix), strict=True)],
        "confusion_matrix": np.asarray(matrix).tolist(),
    }


def errors_of_numbers(args: argparse.Namespace, name: str, task, model, inputs: tuple) -> dict[str, Any]:
    """Return the errors of a model that predicts numbers; draw predictions over true numbers with --figure.

    Args:
        name: of the data.
        inputs: processor, datasets, true numbers (inputs, targets) and batch size, as for `rank_all`.
    """
    import numpy as np

    from hf_vits.evaluation.regression import of_each_target, regression_metrics
    from hf_vits.figures.runs import draw_numbers

    true = inputs[2]
    (predicted,) = rank_all(task, model, *inputs)
    names = list(model.config.id2label.values())
    if args.figure:
        args.figure.parent.mkdir(parents=True, exist_ok=True)
        draw_numbers(np.stack([predicted, true]), names, args.figure)
    means = regression_metrics(predicted, true, names)
    return {
        "model": args.model,
        "data": name,
        f"{task.noun}s": len(true),
        **{key: value for key, value in means.items() if key in ("mae", "mse", "r2")},
        "targets": [
            {"target": target, **row} for target, row in zip(names, of_each_target(predicted, true), strict=True)
        ],
    }


def several_labels(args: argparse.Namespace, name: str, task, model, inputs: tuple) -> dict[str, Any]:
    """Return the scores of a model of several labels, and of each label; draw their average precision with --figure.

    Args:
        name: of the data.
        inputs: processor, datasets, labels (inputs, classes) and batch size, as for `rank_all`.
    """
    import numpy as np
    from transformers import EvalPrediction

    from hf_vits.evaluation.multi_label import multi_label_metrics, of_each_class
    from hf_vits.figures.runs import draw_precisions

    labels = inputs[2]
    probabilities, losses, known = rank_all(task, model, *inputs)
    thresholds = np.asarray(getattr(model.config, "label_thresholds", None) or 0.5)
    rows = of_each_class(probabilities, labels, known, thresholds)
    names = [model.config.id2label[index] for index in range(model.config.num_labels)]
    if args.figure:
        args.figure.parent.mkdir(parents=True, exist_ok=True)
        draw_precisions(rows, names, args.figure)
    prediction = EvalPrediction(predictions=(probabilities, losses, known), label_ids=labels)
    return {
        "model": args.model,
        "data": name,
        f"{task.noun}s": len(labels),
        **multi_label_metrics(prediction, thresholds),
        "scores": [{"label": label, **row} for label, row in zip(names, rows, strict=True)],
    }


def multi_label_of_model(labels, order, num_labels: int):
    """Return labels (inputs, classes of the model), NaN for classes that the data lack.

    Args:
        labels: (inputs, classes of the data).
        order: the model's class for each of the data's.
    """
    import numpy as np

    found = np.full((len(labels), num_labels), np.nan, dtype=np.float32)
    found[:, order] = labels
    return found


def task_of(source: str) -> Any:
    """Return the task of a classifier; ValueError for other models."""
    from hf_vits.training import tasks

    from ..models import class_of, load_config

    name = class_of(load_config(source)).__name__
    for ending, task in _TASKS.items():
        if name.endswith(ending):
            return tasks.load(task)
    raise ValueError(
        f"{source} is a {name}, which has no classifier for images, videos or recordings; "
        "--method knn, linear and low-shot do not need one"
    )


def rank_all(task, model, processor, datasets, labels, batch_size: int):
    """Return the most probable classes (inputs, at most 5) and cross-entropy (inputs,) of all inputs of datasets.

    Of several labels return what `evaluation.multi_label.score` does, of a regression only the predicted numbers.
    """
    import torch
    from torch.utils.data import ConcatDataset, DataLoader
    from tqdm import tqdm

    from hf_vits.data.label_groups import heads_of
    from hf_vits.evaluation.accuracy import rank
    from hf_vits.evaluation.multi_label import score
    from hf_vits.training.loop.trainer import features_of

    loader = DataLoader(ConcatDataset(datasets), batch_size=batch_size, collate_fn=task.evaluation_collator(processor))
    truth = torch.from_numpy(labels).split(batch_size)
    several, found = labels.ndim == 2 and labels.dtype.kind == "f", []
    with torch.inference_mode():
        for batch, true in zip(tqdm(loader, "Evaluating", unit="batch", disable=None), truth, strict=True):
            features = {name: to_model(value, model) for name, value in features_of(batch).items()}
            logits = task.logits(model, processor, features).float().cpu()
            known = features.get("known_labels")
            states = None if known is None else known.float().cpu()
            if model.config.problem_type == "regression":
                found.append((logits,))
                continue
            found.append(score(logits, true, states) if several else rank(logits, true, heads_of(model.config)))
    return tuple(torch.cat(parts).numpy() for parts in zip(*found, strict=True))


def to_model(value, model):
    """Move a tensor to the model's device, and if it holds floats to the model's dtype."""
    return value.to(model.device, model.dtype if value.is_floating_point() else None)


def show(result: dict[str, Any]) -> None:
    from ..tables import print_facts, print_table

    if "targets" in result:
        print_facts((name, value) for name, value in result.items() if name != "targets")
        columns = ("target", "mae", "mse", "r2")
        print_table(columns, [tuple(row.get(name, "") for name in columns) for row in result["targets"]])
        return
    if "scores" in result:
        print_facts((name, value) for name, value in result.items() if name != "scores")
        columns = ("label", "positives", "threshold", "average_precision", "precision", "recall", "f1")
        print_table(columns, [tuple(row.get(name, "") for name in columns) for row in result["scores"]])
        return
    labels, matrix = result["labels"], result["confusion_matrix"]
    print_facts(
        (name, value) for name, value in result.items() if name not in ("labels", "classes", "confusion_matrix")
    )
    if len(labels) <= _MOST_SHOWN_CLASSES:
        rows = [(label, *counts) for label, counts in zip(labels, matrix, strict=True)]
        columns = ("class", "inputs", "precision", "recall", "f1")
        print_table(columns, [tuple(row[name] for name in columns) for row in result["classes"]])
        print_table(("true \\ predicted", *labels), rows, title="confusion matrix")
    elif mistakes := most_frequent_mistakes(labels, matrix):
        print_table(("class", "taken for", "times"), mistakes, title="most frequent mistakes")


def most_frequent_mistakes(labels: list[str], matrix: list[list[int]]) -> list[tuple[str, str, int]]:
    """Return the ten most frequent (true class, predicted class, times), the most frequent first."""
    mistakes = [
        (labels[row], labels[column], count)
        for row, counts in enumerate(matrix)
        for column, count in enumerate(counts)
        if count and row != column
    ]
    return sorted(mistakes, key=lambda mistake: -mistake[2])[:10]
