"""Configurations with odd fields: refused at construction, or the model works, trains and is saved and loaded."""

import copy
import dataclasses
import json
import math
from pathlib import Path
from random import Random
from typing import Any

import torch

from hf_vits.configuration import numbers
from tests.support.batches import Kind, batch, kinds, sides

from .harness import Case

SMALL, LARGE = 60, 5000
HUGE = (2**31, 2**63, 10**6, 10**9)
INTEGERS = (0, -1, 1, 2, 3, 5, 7, 33, -(2**31))
FLOATS = (0.0, 0.5, 1.0, 1.1, 1.5, -0.5, 1e-30, math.nan, math.inf, -math.inf)
OTHERS = ("", "1", "unknown", "GELU", "none", "🐈", None, True, False, (), [], [[]], [None], [1, 2], [1, 2, 3], [0.5])
OTHERS += ({}, {"a": 1}, b"1", 1j)
# Fields that transformers' configurations share; those of generation are no fields of an encoder.
SHARED = ("id2label", "label2id", "num_labels", "problem_type", "output_hidden_states", "output_attentions", "dtype")
SHARED += ("return_dict", "chunk_size_feed_forward", "out_features", "out_indices", "attn_implementation")
LABELS = (
    {0: "a", 2: "b"},
    {"0": "a", "1": "b"},
    {1: "a", 2: "b"},
    {-1: "a", 0: "b"},
    {0: "a", 1: "a"},
    {"a": 0, "b": 1},
    {"x": "y"},
    {0: 1, 1: 2},
    {},
)
# Sides of images and windows that are no multiple of anything, or very unlike.
SIDES = (1, 2, 9, 31, 37, 64, [32, 64], [64, 32], [31, 33], (32, 32), [32], [32, 32, 32], [0, 32], [1, 1], [32, -32])
# Wider models, whose forward pass takes minutes, are none of these tests'.
MOST_PARAMETERS, LARGEST_INPUT, LARGEST_WINDOW = 3_000_000, 96, 32

ALL = list(kinds())


def make(random: Random) -> Case:
    kind = random.choice(ALL)
    fields = copy.deepcopy(kind.fields)
    part, prefix = fields, ""
    if "backbone_config" in fields and random.random() < 0.4:
        part, prefix = fields["backbone_config"], "backbone_config."
    names = own_fields(kind, bool(prefix))
    is_backbone = hasattr(config_class(kind, bool(prefix)), "out_features")
    shared = [name for name in SHARED if is_backbone or not name.startswith("out_")]
    changes = {}
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        name = random.choice(shared) if random.random() < 0.1 else random.choice(names)
        changes[name] = odd_value(random, name, part.get(name, default(kind, name, bool(prefix))))
    part.update(changes)
    saves, trains = random.random() < 0.25, random.random() < 0.6
    title = f"{kind.name}({', '.join(f'{prefix}{name}={short(value)}' for name, value in changes.items())})"
    words = {*changes, *(word for name in changes for word in MORE_WORDS.get(name, ()))}
    return Case(title, tuple(words), lambda folder: build_and_run(kind, fields, saves, trains, folder))


# Other names of what a field says, as transformers' messages have them.
MORE_WORDS = {
    "num_labels": ("id2label",),
    "label2id": ("id2label",),
    "attn_implementation": ("attn_implementation", "attention implementation"),
    "output_attentions": ("attn_implementation", "sdpa"),
    "out_indices": ("out_features", "stage_names"),
    "out_features": ("stage_names",),
}


# What a model says of the images or clips of the size that the configuration names, which it is called with.
MORE_WORDS |= dict.fromkeys(
    ("image_size", "num_frames", "patch_size", "patch_sizes", "kernel_size"),
    ("an image of", "a clip of", "an image or"),
)


def short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else f"{text[:76]} ..."


def config_class(kind: Kind, in_backbone: bool):
    if not in_backbone:
        return kind.model_class.config_class
    from transformers import AutoConfig

    return type(AutoConfig.for_model(kind.fields["backbone_config"]["model_type"]))


def own_fields(kind: Kind, in_backbone: bool) -> list[str]:
    """Return the names of the fields of a configuration that are not those of all of transformers."""
    from transformers import PreTrainedConfig

    shared = {field.name for field in dataclasses.fields(PreTrainedConfig)}
    names = [field.name for field in dataclasses.fields(config_class(kind, in_backbone))]
    return [name for name in names if name not in shared and not name.startswith("_")]


def default(kind: Kind, name: str, in_backbone: bool) -> Any:
    fields = {field.name: field for field in dataclasses.fields(config_class(kind, in_backbone))}
    return fields[name].default if name in fields else None


def odd_value(random: Random, name: str, value: Any) -> Any:
    """Return a value for a field whose usual value is known: of a wrong type or size, or close to the usual one."""
    if name in ("id2label", "label2id") and random.random() < 0.7:
        return copy.deepcopy(random.choice(LABELS))
    if name in ("image_size", "window_size") and random.random() < 0.5:
        return copy.deepcopy(random.choice(SIDES))
    if isinstance(value, list | tuple) and value and random.random() < 0.75:
        return odd_list(random, list(value))
    if isinstance(value, str) and random.random() < 0.3:
        return random.choice((value.upper(), f" {value}", value[:-1], f"{value}x", [value], f"{value}\n"))
    if isinstance(value, int | float) and not isinstance(value, bool) and random.random() < 0.5:
        return random.choice((value + 1, value - 1, 2 * value, -value, value / 3, value // 2, str(value), [value]))
    if isinstance(value, bool) and random.random() < 0.7:
        return not value
    if isinstance(value, int) and random.random() < 0.85:
        return random.choice((*INTEGERS, *HUGE))
    if isinstance(value, float) and random.random() < 0.85:
        return random.choice((*FLOATS, *INTEGERS))
    return copy.deepcopy(random.choice(random.choice((INTEGERS, FLOATS, OTHERS, OTHERS))))


def odd_list(random: Random, values: list) -> list:
    position = random.randrange(len(values))
    change = random.choice(("shorter", "longer", "other", "other", "other", "reversed", "nested", "empty", "scaled"))
    if change == "shorter":
        return values[:position] + values[position + 1 :]
    if change == "longer":
        return [*values, random.choice(values)]
    if change == "other":
        values[position] = copy.deepcopy(random.choice(random.choice((INTEGERS, INTEGERS, FLOATS, HUGE, OTHERS))))
        return values
    if change == "scaled":
        values[position] = values[position] * 2
        return values
    return {"reversed": values[::-1], "nested": [values], "empty": []}[change]


def build_and_run(kind: Kind, fields: dict, saves: bool, trains: bool, folder: Path) -> None:
    """Build configuration and model; run it forward and, if it is small, backward, and through a folder."""
    torch.manual_seed(0)
    config = kind.model_class.config_class(**fields)
    config.save_pretrained(folder)
    read = type(config).from_pretrained(folder)
    written, again = (json.dumps(c.to_diff_dict(), sort_keys=True) for c in (config, read))
    assert again == written, f"read as {again}"
    model = kind.model_class(config)
    backbone = getattr(config, "backbone_config", config)
    lengths = [getattr(backbone, name, None) or 0 for name in ("num_frames", "num_mel_bins")]
    if getattr(backbone, "image_size", None) is not None:
        lengths += sides_of(backbone)
    if max(lengths) > LARGEST_INPUT or model.num_parameters() > MOST_PARAMETERS:
        return
    windows = numbers(getattr(backbone, "window_size", None))
    if max(windows, default=0) > LARGEST_WINDOW:  # the attention of 64 x 64 tokens takes long
        return
    inputs = batch(kind, config)
    model.train(trains)
    output = model(**inputs)
    check_output(kind, config, output, inputs)
    if trains:
        tensors = [t for t in floats(output) if t.requires_grad]
        loss = output["loss"] if getattr(output, "loss", None) is not None else sum(t.float().sum() for t in tensors)
        if isinstance(loss, torch.Tensor) and loss.requires_grad:
            loss.backward()
            for name, parameter in model.named_parameters():
                assert parameter.grad is None or parameter.grad.isfinite().all(), f"gradient of {name}"
    if saves:
        model.eval()
        model.save_pretrained(folder)
        again = kind.model_class.from_pretrained(folder).eval()
        states = model.state_dict()
        for name, tensor in again.state_dict().items():
            assert torch.equal(tensor, states[name]), f"{name} is not as saved"


def sides_of(config) -> list[int]:
    return [config.image_size] if isinstance(config.image_size, int) else list(config.image_size)


def floats(output) -> list[torch.Tensor]:
    """Return the tensors of floating-point numbers of an output, those of tuples as well."""
    values = output.values() if hasattr(output, "values") else output
    tensors = []
    for value in values:
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            tensors.append(value)
        elif isinstance(value, list | tuple):
            tensors += floats(value)
    return tensors


def check_output(kind: Kind, config, output, inputs: dict) -> None:
    tensors = floats(output)
    assert tensors or getattr(config, "out_features", None) == [], "no output"
    for tensor in tensors:
        assert tensor.isfinite().all(), "not finite"
    if "Classification" in kind.model_class.__name__ and not isinstance(output, tuple):
        size = len(next(iter(inputs.values())))
        expected = config.num_labels or config.pooler_size
        assert tuple(output.logits.shape)[:1] == (size,), f"{tuple(output.logits.shape)} logits"
        assert output.logits.shape[-1] == expected, f"{tuple(output.logits.shape)} logits, expected {expected}"


__all__ = ["LARGE", "SMALL", "make", "sides"]
