"""Odd recipes: the shipped ones with damaged text, other keys and other values.

A recipe is read and checked; what is accepted must build: model, optimizer, schedule, objective and data transforms.
"""

import random
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from hf_vits.data.splits import Split, Splits
from hf_vits.optim.optimizers import build_optimizer
from hf_vits.optim.schedules import build_schedule
from hf_vits.parsing import parse_yaml
from hf_vits.recipe import Recipe, load_recipe
from hf_vits.training import tasks
from hf_vits.training.building import build_model
from hf_vits.training.building.trainer import mixing_steps, step_callbacks, training_arguments
from hf_vits.training.classification import label_fields
from tests.fuzz.harness import Case
from tests.support.paths import RECIPES
from tests.support.training import TINY_RECIPE

SMALL, LARGE = 100, 3000
IMAGES = 4096

# Values of every kind, in YAML: numbers at limits, other types, text that looks like something else.
WORDS = """
null ~ '' true false yes off 0 -0.0 1 -1 2 3 7 0.1 0.5 1.5 -0.1 1e-3 1.0e-3 1e400 -1e400 .nan .inf -.inf 0.001 100
4294967295 4294967296 9223372036854775808 1e30 1.0e+30 0x10 0o17 1_000 300000 16384 12:30:45 2001-01-01 2001-13-01
[] [1] [1,2] [2,1] [0,0] [-1,1] [.nan,1] [1,.inf] [a,b] [null] [[1]] [[]] {} << '(' ['('] ['*'] ['a{99999999}']
['(a+)+$'] cct vit mae digits lars adamw /nonexistent ../.. a/b/c
"""
VALUES = (
    *WORDS.split(),
    *("{a: 1}", "{1: 2}", "{null: 1}", "{true: 1}", "{[1]: 2}", "{a: 1, a: 2}", "&a 1", "*a", "&l [*l]", "&l {a: *l}"),
    *("!!binary aGk=", "!!set {a}", "!!python/object:os.system {}", "!!float 3", "!!str 3", "!!bool x", "!unknown x"),
    *("1 epoch", "0 steps", "5 steps", "1e3 steps", "1e300 epochs", "99999999999999999999 steps", "0.0001 epochs"),
    *("-3 epochs", "\u0665 epochs", "3 days", '"\\0"', '"\\uD83D"', "\U0001f600", "2001-12-14t21:59:43.10-05:00"),
    *("9" * 5000, "-" + "9" * 5000, "1." + "0" * 5000, "x" * 10_000, "0x" + "f" * 5000),
    *("[" * 3000, "[" * 500 + "]" * 500, "{a: " * 400 + "1" + "}" * 400),
)
TEXTS = (
    "",
    "\n\n",
    "# nothing\n",
    "---\n---\n",
    "- a\n- b\n",
    "3\n",
    "2001-01-01\n",
    "null\n",
    "text\n",
    "{}\n",
    "a: b: c\n",
    "? [a, b]\n: 1\n",
    "\ufeffmodel: {}\n",
    "model: *nowhere\n",
    "&x model: *x\n",
    "%YAML 9.9\n---\n{}\n",
    "!!python/object/apply:os.getcwd []\n",
    "[" * 20_000,
    "a:\n" + "".join(f"{' ' * (depth + 1)}a:\n" for depth in range(1500)),
    "- " * 5000 + "a",
    "a: &a [1,1,1,1,1,1,1,1,1]\n"
    + "".join(
        f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    ),
)


@cache
def shipped() -> tuple[tuple[tuple[str, str], ...], str]:
    """Return (name, text) of every recipe of the project, and the text of the tiny one."""
    tiny = yaml.safe_dump(TINY_RECIPE | {"output": {"directory": "run"}}, sort_keys=False)
    return tuple((path.stem, path.read_text()) for path in sorted(RECIPES.glob("*.yaml"))), tiny


def damaged_text(text: str, generator: random.Random) -> bytes:
    """Return a recipe's text with lines or bytes changed."""
    lines, raw = text.splitlines(), text.encode()
    place = generator.randrange(len(lines))
    kind = generator.randrange(10)
    if kind == 0:
        return raw[: generator.randrange(len(raw))]
    if kind == 1:
        changed = bytearray(raw)
        for _ in range(generator.choice([1, 3, 20])):
            changed[generator.randrange(len(changed))] = generator.randrange(256)
        return bytes(changed)
    if kind == 2:
        return generator.choice(TEXTS).encode("utf-8", "surrogatepass")
    if kind == 3:
        return text.encode(generator.choice(["utf-16", "utf-32", "latin-1", "utf-8-sig"]), "replace")
    if kind == 4:
        lines.insert(place, lines[generator.randrange(len(lines))])  # a key twice, or in another section
    elif kind == 5:
        lines[place] = " " * generator.randrange(1, 5) + lines[place]
    elif kind == 6:
        lines[place] = lines[place].replace(
            ": ", generator.choice([":", " = ", ": : ", "", ": |\n", ":\t", ": &a *a "])
        )
    elif kind == 7:
        lines.insert(
            place, generator.choice(["---", "...", "<<: *a", "\t", "? x", "@", "`", "%TAG", "key", "\x00", "\x85"])
        )
    elif kind == 8:
        del lines[place : place + generator.choice([1, 1, 5])]
    else:
        generator.shuffle(lines)
    return "\n".join(lines).encode()


def places(values: Any, path: tuple = ()) -> list[tuple]:
    """Return the paths of all keys in nested dicts."""
    if not isinstance(values, dict):
        return []
    return [place for key, value in values.items() for place in [(*path, key), *places(value, (*path, key))]]


def odd_override(values: dict, generator: random.Random) -> str:
    """Return `section.key=value` with a key of the recipe, of any recipe, or a wrong one, and any value."""
    keys = [".".join(map(str, path)) for path in places(values)]
    chosen = generator.random()
    deep = [
        key for key in all_keys() if key.split(".")[0] in ("model", "optimizer", "augmentation", "schedule", "train")
    ]
    key = generator.choice(keys if chosen < 0.3 else deep if chosen < 0.8 else all_keys())
    if generator.random() < 0.05:
        key += generator.choice(["x", ".", ".a", " ", ".0"])
    if generator.random() < 0.5:  # a value of the same type
        for part in key.split("."):
            values = values.get(part) if isinstance(values, dict) else None
        alike = [text for text, value in readable() if type(value) is type(values)]
        if alike:
            return f"{key}={generator.choice(alike)}"
    return f"{key}={generator.choice(VALUES)}"


@cache
def readable() -> list[tuple[str, Any]]:
    """Return those of `VALUES` that YAML can read, and what they are."""
    found = []
    for text in VALUES:
        try:
            found.append((text, parse_yaml(text, "value")))
        except ValueError:
            continue
    return found


@cache
def all_keys() -> list[str]:
    """Return every key of a recipe, dotted, those of optional sections included."""
    optional = {"teacher": {"pretrained": "x"}, "tokenizer": {}, "views": {}, "masks": {}, "momentum_teacher": {}}
    optional |= {"neighbours": {}, "audio": {"spec_augment": {"time_width": 3}}, "objective": {"distillation": "soft"}}
    whole = load_recipe(TINY_RECIPE | {"output": {"directory": "run"}} | optional).to_dict()
    config = ("image_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "patch_size", "hidden_act")
    processor = ("size", "image_mean", "image_std", "resample", "do_normalize", "convention", "crop_size")
    named = [*(("model", "config", key) for key in config), *(("model", "processor", key) for key in processor)]
    named += [("optimizer", "options", key) for key in ("betas", "eps", "momentum", "nesterov", "foreach")]
    named += [("data", "columns", key) for key in ("image", "label", "split")] + [("data", "splits", "train")]
    named += [("model", "probe"), ("model", "initialize_from"), ("audio", "spec_augment", "time_fraction")]
    named += [("augmentation", "randaugment", key) for key in ("ops", "magnitude", "std", "policy")]
    return [".".join(path) for path in [*places(whole), *named]]


def odd_tree(values: dict, generator: random.Random) -> dict:
    """Return a recipe with one key removed, renamed or moved."""
    path = generator.choice(places(values))
    inner = values
    for key in path[:-1]:
        inner = inner[key]
    value = inner.pop(path[-1])
    kind = generator.randrange(4)
    if kind == 1:
        inner[f"{path[-1]}s"] = value
    elif kind == 2:
        inner[generator.choice([1, None, True, 2.5, ("a",), "", "model", str(path[-1]).upper()])] = value
    elif kind == 3:
        values[path[-1]] = value
    return values


def make(generator: random.Random) -> Case:
    """Make a recipe with one kind of damage."""
    recipes, tiny = shipped()
    name, text = ("tiny", tiny) if generator.random() < 0.5 else generator.choice(recipes)
    overrides, kind, values = [], generator.random(), yaml.safe_load(text)
    if kind < 0.25:
        content = damaged_text(text, generator)
        return Case(f"{name}, damaged text", ("odd.yaml", *all_keys()), lambda folder: read(folder, content))
    if kind < 0.35:
        values = odd_tree(values, generator)
    else:
        overrides = [odd_override(values, generator) for _ in range(generator.choice([1, 1, 1, 2]))]
    content = yaml.dump(values, sort_keys=False).encode()
    words = [override.partition("=")[0].rpartition(".")[2] for override in overrides]
    title = f"{name} {'; '.join(override[:200] for override in overrides)}"
    return Case(title, ("odd.yaml", *all_keys(), *words), lambda folder: read(folder, content, overrides))


def read(folder: Path, content: bytes, overrides: Iterable[str] = ()) -> None:
    """Read a recipe, and build it if it is accepted."""
    path = folder / "odd.yaml"
    path.write_bytes(content)
    build(load_recipe(path, overrides))


class Pictures:
    """Images drawn as they are read."""

    def __getitem__(self, index: int) -> Image.Image:
        return Image.fromarray(np.random.RandomState(index).randint(0, 256, (40, 33, 3), dtype=np.uint8))


def build(recipe: Recipe) -> None:
    """Build what a run of a recipe is made of, the model without values, and one training sample."""
    task = tasks.load(recipe.task)
    classes = min(recipe.data.num_classes or 10, IMAGES)
    head: dict[str, Any] = label_fields([f"class {index}" for index in range(classes)])
    if recipe.task == "pretraining":
        head = {}
    elif recipe.task == "automatic-speech-recognition":
        head = {"vocab_size": (recipe.tokenizer and recipe.tokenizer.vocab_size) or 30}
    elif isinstance(columns := recipe.data.columns.get("label"), list):
        head["head_sizes"] = [classes // len(columns)] * len(columns)
    with torch.device("meta"):
        model, processor = build_model(
            replace(recipe.model, checkpoint=None, target=None, initialize_from=None), head, task
        )
    steps_per_epoch = max(IMAGES // recipe.train.batch_size, 1)
    arguments = training_arguments(recipe, steps_per_epoch)
    optimizer = build_optimizer(model, recipe.optimizer)
    build_schedule(optimizer, recipe.schedule, recipe.optimizer.learning_rate, arguments.max_steps, steps_per_epoch)
    step_callbacks(recipe, arguments.max_steps)
    task.objective(recipe)
    domains = list(recipe.data.domains)
    split = Split(Pictures(), np.arange(IMAGES) % classes, np.arange(IMAGES) % len(domains) if domains else None)
    if task.noun != "image":
        return
    splits = Splits(
        "pictures", [f"class {index}" for index in range(classes)], split, split, split, domain_names=domains
    )
    batches = task.batches(
        recipe, splits, accumulation=recipe.train.accumulation, mix_steps=mixing_steps(recipe, steps_per_epoch)
    )
    keys = next(iter(batches))[:3]
    if recipe.task == "image-classification":
        collate = task.collator(recipe, model, processor, splits)
        samples = task.training_set(recipe, model, processor, split)
        collate([samples[key] for key in keys])
        task.evaluation_set(recipe, model, processor, split)[0]
