"""A recipe so small that a step takes milliseconds, with everything random switched on."""

import copy
import json
from pathlib import Path
from typing import Any

TINY_RECIPE = {
    "model": {
        "system": "cct",
        "variant": "cct_2_3x2_32",
        # Attention dropout and stochastic depth of 0.1 are the variant's own.
        "config": {"image_size": 16, "hidden_size": 32, "intermediate_size": 32, "conv_hidden_size": 8},
    },
    "data": {"source": "digits", "test_fraction": 0.2},
    "augmentation": {
        "affine": {"degrees": 10, "translate": 0.1},
        "randaugment": {"ops": 1, "magnitude": 5, "std": 1},
        "erasing": 0.2,
        "mixup": 0.4,
        "cutmix": 1.0,
        "mix_probability": 0.8,
        "repeats": 2,
    },
    "objective": {"label_smoothing": 0.1},
    "optimizer": {"learning_rate": 0.003, "weight_decay": 0.05, "layer_decay": 0.9},
    "schedule": {"warmup": "5 steps"},
    "train": {
        "length": "24 steps",
        "batch_size": 32,
        "log_every": "1 step",
        "save_every": "5 steps",
        "evaluate_every": "10 steps",
        "ema_decay": 0.9,
        "use_ema": True,
    },
}


def tiny_recipe(directory: Path, **changes: Any) -> dict[str, Any]:
    """The tiny recipe with results in `directory`, `changed`."""
    return changed(copy.deepcopy(TINY_RECIPE) | {"output": {"directory": str(directory)}}, changes)


def changed(recipe: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The recipe itself with `section__key=value` changed; a section may be None."""
    for path, value in changes.items():
        section, _, key = path.partition("__")
        if key:
            recipe.setdefault(section, {})[key] = value
        else:
            recipe[section] = value
    return recipe


def history(directory: Path) -> list[dict[str, Any]]:
    """Logged entries of a run."""
    return [json.loads(line) for line in (Path(directory) / "history.jsonl").read_text().splitlines()]


def losses(directory: Path) -> list[float]:
    """Training loss of every logged step."""
    return [entry["loss"] for entry in history(directory) if "loss" in entry]
