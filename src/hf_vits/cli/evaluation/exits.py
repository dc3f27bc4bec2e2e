"""Accuracy and cost of a classifier with early exits."""

import argparse
from pathlib import Path
from typing import Any

from ..numbers import above_zero
from .data import load_recipe_of, load_splits

OPTIONS = {"figure": None, "budget": None, "save": False, "compare": ()}
_UNIT = 1e9  # multiply-adds of --budget


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--budget", type=above_zero, metavar="G", help="mean multiply-adds of an image, in 1e9")
    parser.add_argument("--save", action="store_true", help="write these thresholds to the config.json of MODEL")
    parser.add_argument("--compare", nargs="+", metavar="MODEL", help="static classifiers to measure, drawn as points")


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
    from hf_vits.evaluation.exits import calibrate, check_exits, exit_costs, outcome, sweep
    from hf_vits.figures.exits import draw_exits

    from ..models import load_classifier

    if args.save and args.budget is None:
        raise ValueError("--save writes the thresholds of a budget: give --budget")
    if args.save and not Path(args.model).is_dir():
        raise ValueError(f"--save changes config.json, so MODEL must be a folder, got {args.model}")
    if args.split == "train":
        raise ValueError("--method exits finds thresholds on other images than it measures: choose validation or test")
    model, processor = load_classifier(args.model)
    check_exits(model, args.model)
    recipe = load_recipe_of(args.data)
    splits = load_splits(args, recipe)
    measured = getattr(splits, args.split)
    is_apart = args.split != "validation" and splits.validation is not splits.test
    name, calibration = ("validation", splits.validation) if is_apart else ("train", splits.train)
    costs = exit_costs(model)
    calibrated, scores = (
        scores_of(args, recipe, model, processor, split, splits.class_names) for split in (calibration, measured)
    )
    outcomes = sweep(calibrated, scores, costs)
    accuracies = scores.right.double().mean(dim=1)
    exits = list(zip(costs.tolist(), accuracies.tolist(), strict=True))
    static = {Path(other).name: static_point(args, recipe, other, measured, splits) for other in args.compare}
    chosen = None
    if args.budget is not None:
        chosen = outcome(scores.confidences, scores.right, costs, calibrate(model, calibrated, args.budget * _UNIT))
    if args.save:
        save_thresholds(Path(args.model), model.config.exit_thresholds)
    if args.figure:
        args.figure.parent.mkdir(parents=True, exist_ok=True)
        curve = [(result.cost, result.accuracy) for result in outcomes]
        draw_exits(curve, exits, static, args.figure, chosen and (chosen.cost, chosen.accuracy))
    return {
        "model": args.model,
        "data": f"{splits.name}, {args.split}",
        "method": args.method,
        "calibration": f"{name}, {len(calibration)} images",
        "images": len(measured),
        "exits": [row(f"exit {number}", *point) for number, point in enumerate(exits, start=1)],
        "static": [row(other, *point) for other, point in static.items()],
        "budgets": [described(result) for result in outcomes],
        "chosen": None if chosen is None else described(chosen),
    }


def row(name: str, cost: float, accuracy: float) -> dict[str, Any]:
    return {"network": name, "multiply_adds": cost / _UNIT, "accuracy": accuracy}


def described(result) -> dict[str, Any]:
    """Return an outcome as JSON can hold it."""
    fractions = result.exits.bincount(minlength=len(result.thresholds)) / len(result.exits)
    return {
        "multiply_adds": result.cost / _UNIT,
        "accuracy": result.accuracy,
        "thresholds": result.thresholds.tolist(),
        "fractions": fractions.tolist(),
    }


def scores_of(args: argparse.Namespace, recipe, model, processor, split, class_names):
    """Return what each exit says of a split."""
    import torch
    from torch.utils.data import DataLoader

    from hf_vits.evaluation.accuracy import labels_of_model
    from hf_vits.evaluation.exits import exit_scores
    from hf_vits.training import tasks

    images = tasks.load("image-classification").evaluation_set(recipe, model, processor, split)
    labels = labels_of_model(model.config, class_names)[split.labels]
    return exit_scores(model, DataLoader(images, args.batch_size), torch.from_numpy(labels))


def static_point(args: argparse.Namespace, recipe, source: str, split, splits) -> tuple[float, float]:
    """Return multiply-adds and accuracy of a classifier without exits."""
    import numpy as np

    from hf_vits.evaluation.accuracy import labels_of_model
    from hf_vits.evaluation.exits import static_cost
    from hf_vits.training import tasks

    from ..models import load_classifier
    from .classification import rank_all

    model, processor = load_classifier(source)
    task = tasks.load("image-classification")
    images = task.evaluation_set(recipe, model, processor, split)
    labels = labels_of_model(model.config, splits.class_names)[split.labels]
    rankings, _ = rank_all(task, model, processor, [images], labels, args.batch_size)
    return static_cost(model), float(np.mean(rankings[:, 0] == labels))


def save_thresholds(folder: Path, thresholds: list[float]) -> None:
    """Write thresholds to the configuration of a saved model, whose other fields stay as they are."""
    import json

    from hf_vits.files import read_json

    path = folder / "config.json"
    partial = path.with_suffix(".partial.json")
    partial.write_text(json.dumps(read_json(path) | {"exit_thresholds": thresholds}, indent=2, sort_keys=True) + "\n")
    partial.replace(path)


def show(result: dict[str, Any]) -> None:
    from ..tables import print_facts, print_table

    names = ("model", "data", "method", "calibration", "images")
    print_facts((name, result[name]) for name in names)
    rows = [tuple(entry.values()) for entry in result["exits"] + result["static"]]
    print_table(("network", "multiply-adds, 1e9", "accuracy"), rows)
    budgets = result["budgets"][:: max(len(result["budgets"]) // 12, 1)]
    if result["chosen"]:
        budgets = [result["chosen"]]
    print_table(
        ("mean multiply-adds, 1e9", "accuracy", "fraction at each exit", "thresholds"),
        [
            (
                entry["multiply_adds"],
                entry["accuracy"],
                ", ".join(f"{fraction:.0%}" for fraction in entry["fractions"]),
                ", ".join("closed" if limit > 1 else f"{limit:.3f}" for limit in entry["thresholds"][:-1]),
            )
            for entry in budgets
        ],
        title="thresholds of the budget" if result["chosen"] else "budgets",
    )
