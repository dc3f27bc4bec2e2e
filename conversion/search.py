"""The search for the system and the variant of a checkpoint, by the keys and shapes of its tensors."""

import math
from collections.abc import Mapping
from operator import itemgetter
from types import ModuleType
from typing import Any

import torch
from transformers import CONFIG_MAPPING

from .checkpoint import unwrap
from .core import HEADS, SYSTEMS, converted, reader, system, with_overrides
from .shared.layout import Layout, has_key

# Fields that no tensor of some systems records.
UNRECORDED = ("num_attention_heads", "decoder_num_attention_heads", "pixel_num_attention_heads", "head_dim")
UNRECORDED += ("layer_norm_eps", "hidden_act", "patch_strides", "stride", "padding", "window_size", "pool_first")
# Tensors with fewer sizes than this in a system's keys are not the system's.
MIN_SIZES = 2
# What conversions raise for tensors of another kind.
FAILURES = (ValueError, TypeError, KeyError, AttributeError, IndexError, ZeroDivisionError, RuntimeError)
# {regular expression of a key: what such a file is}
NO_WEIGHTS = {
    r".*\.lora_[AB]\b": "a LoRA adapter: merge it into its base model (peft's merge_and_unload) and convert that",
    r".*\.(qweight|qzeros|g_idx|SCB|absmax|quant_map|weight_scale|zero_point|_packed_params)\b": "of a quantised "
    "model: convert the model from before quantisation",
}
FOREIGN = {
    r"(layer\d\.\d|features\.\d+)\.conv\d*\.|stages\.\d\.\d\.(dwconv|gamma)|.*\.conv_(dw|pwl?)\.": "a convolutional "
    "network",
    r"(model\.)?layers\.\d+\.self_attn\.|transformer\.h\.\d+\.": "a language model",
    r"(text_model|visual|vision_model|text_projection)\b": "a model of images and text, such as CLIP",
}


def nearest(name: str, tensors: Mapping[str, torch.Tensor], overrides: dict) -> tuple[str, dict]:
    """Return the variant whose sizes are nearest to the tensors', and its fields that no tensor records.

    Where the width is not the variant's, its channels per head are kept.

    Raises:
        ValueError: the tensors are of no variant of the system.
    """
    module = reader(name, tensors)
    found, seen = [], []
    for variant, fields in (module.VARIANTS or system(name).VARIANTS).items():
        fields = fields | getattr(module, "FIXED", {})
        if fields in seen:  # another training of the same sizes, as the first
            continue
        seen.append(fields)
        try:
            inferred, model_class = shapes_of(module, tensors, with_overrides(fields, overrides))
        except FAILURES:
            continue  # the variant is of another kind, whose tensors these are not
        if num_sizes(inferred) < MIN_SIZES:
            continue
        order = (-num_sizes(inferred), distance(inferred, fields, model_class.config_class), len(found))
        found.append((order, variant, model_class, assumptions(fields, inferred, overrides, model_class.config_class)))
    kinds = {}
    for _, variant, model_class, assumed in sorted(found, key=itemgetter(0)):
        kinds.setdefault(model_class, (variant, assumed))
    for variant, assumed in kinds.values():
        if fits(name, variant, tensors, assumed | overrides):
            return variant, assumed
    if not kinds:
        raise ValueError(
            f"the checkpoint does not fit: its tensors are of no variant of {name}; {first_keys(tensors)}. "
            + kind_of(tensors)
        )
    return next(iter(kinds.values()))


def fits(name: str, variant: str, tensors: dict[str, torch.Tensor], overrides: dict) -> bool:
    """Return whether the tensors have the keys and shapes of a variant; without reading values where possible."""
    shapes = {key: tensor.to("meta") for key, tensor in tensors.items()}
    with torch.device("meta"):
        try:
            converted(name, variant, shapes, overrides)
        except NotImplementedError:  # the conversion reads values
            pass
        except FAILURES:
            return False
        else:
            return True
    try:
        converted(name, variant, dict(tensors), overrides)
    except FAILURES:
        return False
    return True


def find(state_dict: Mapping) -> tuple[str, str]:
    """Return the system whose models have the checkpoint's tensors, and the nearest variant.

    Raises:
        ValueError: no system fits, or several do; the message lists these, or the reasons why other libraries' models
            are refused.
    """
    tensors, found, refused = unwrap(state_dict), {}, []
    check_weights(tensors)
    for name in SYSTEMS:
        try:
            variant, assumed = nearest(name, tensors, {})
        except ValueError as error:
            refused += [str(error)] if "hf_vits has no such model" in str(error) else []
            continue
        if fits(name, variant, tensors, assumed):
            found[name] = variant
    supervised = {name: variant for name, variant in found.items() if not pretrains(name)}
    found = supervised or found
    for name in list(found):  # whose models contain those of other systems, with fewer of the tensors
        found = {other: found[other] for other in found if other not in getattr(system(name), "CONTAINS", ())}
    if found and len(found) == 1:
        return next(iter(found.items()))
    if found:
        layouts = {name: reader(name, tensors) for name in found}
        listed = ", ".join(
            f"{name} ({variant}, keys of {getattr(layouts[name], 'library', 'the original')})"
            for name, variant in found.items()
        )
        raise ValueError(f"the checkpoint fits several systems, whose keys are the same: {listed}. Name one of them")
    if refused:
        raise ValueError(min(refused, key=len))
    raise ValueError(f"the checkpoint is of no model that hf_vits has: {first_keys(tensors)}. " + kind_of(tensors))


def pretrains(name: str) -> bool:
    """Return whether a system's checkpoints are those of self-supervised training.

    After fine-tuning, their keys are the keys of the supervised system with the same architecture.
    """
    return any(variant.endswith("_full") for variant in system(name).VARIANTS)


def kind_of(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return what else the tensors are, by keys that other kinds of files have."""
    for pattern, reason in FOREIGN.items():
        if has_key(tensors, pattern):
            return f"It looks like {reason}"
    return f"Known systems: {', '.join(SYSTEMS)}"


def check_weights(tensors: Mapping[str, torch.Tensor]) -> None:
    """Raise ValueError if the tensors are not a whole model's weights but an adapter, or quantised, or the like."""
    for pattern, reason in NO_WEIGHTS.items():
        if has_key(tensors, pattern):
            raise ValueError(f"the checkpoint is {reason}; {first_keys(tensors)}")


def assumptions(fields: dict, inferred: dict, overrides: dict, config_class: type) -> dict:
    """Return a variant's fields that no tensor records, with heads scaled to the recorded width."""
    assumed = {
        field: fields.get(field, getattr(config_class, field))
        for field in UNRECORDED
        if hasattr(config_class, field) and field not in inferred and field not in overrides
    }
    for width, heads in HEADS.items():
        if heads in assumed and width in inferred:
            own = fields.get(width, getattr(config_class, width))
            assumed[heads] = heads_like(assumed[heads], own, inferred[width])
    return assumed


def num_sizes(inferred: dict) -> int:
    """Return how many sizes, those of nested configurations included, tensors record."""
    values = {key: value for key, value in inferred.items() if key not in ("num_labels", "encoder_stride")}
    count = sum(type(value) in (int, float, list) for value in values.values())
    return count + sum(num_sizes(value) for value in values.values() if isinstance(value, dict))


def shapes_of(module: ModuleType | Layout, tensors: Mapping[str, torch.Tensor], fields: dict) -> tuple[dict, type]:
    """Return the fields that the tensors record, read as a variant with these fields, and its class."""
    recorded = module.infer_original(tensors) if hasattr(module, "infer_original") else {}
    inferred = recorded | module.infer(module.prepare(dict(tensors), fields | recorded), fields | recorded)
    return inferred, module.model_class(fields | inferred)


def distance(inferred: dict, fields: dict, config_class: type) -> float:
    """Return how far the recorded fields are from a variant's: absolute logarithms of ratios, 1 for another value."""
    total = 0.0
    for field, value in inferred.items():
        own: Any = fields.get(field, getattr(config_class, field, None))
        if isinstance(value, dict) and isinstance(own, dict):
            part_class = CONFIG_MAPPING[own["model_type"]] if "model_type" in own else config_class
            total += distance(value, own, part_class)
            continue
        pairs = zip(value, own, strict=False) if all_lists(value, own) else [(value, own)]
        for one, other in pairs:
            if isinstance(one, int | float) and isinstance(other, int | float) and min(one, other) > 0:
                total += abs(math.log(one / other)) * (0.01 if field == "num_labels" else 1)
            elif one != other:
                total += 0.01 if field == "num_labels" else 1
        total += abs(len(value) - len(own)) if all_lists(value, own) else 0
    return total


def all_lists(*values) -> bool:
    return all(isinstance(value, list | tuple) for value in values)


def heads_like(heads, own, width):
    """Return numbers of heads for another width, with as many channels per head, or else the same number."""
    if all_lists(heads, own, width):
        return [heads_like(*part) for part in zip(heads, own, width, strict=False)]
    if not all(isinstance(value, int) for value in (heads, own, width)):
        return heads
    scaled = width * heads // own if width * heads % own == 0 else heads
    return scaled if scaled and width % scaled == 0 else heads


def assumption(variant: str, assumed: dict) -> str:
    """Return the sentence that names what is assumed, since no tensor records it."""
    listed = ", ".join(f"{field}={list(v) if isinstance(v, tuple) else v}" for field, v in assumed.items())
    return f"assumed as in {variant}, since no tensor records it: {listed}. Give other values as overrides (--set)"


def first_keys(tensors: Mapping[str, torch.Tensor]) -> str:
    return f"its first keys are {', '.join(list(tensors)[:4])}"
