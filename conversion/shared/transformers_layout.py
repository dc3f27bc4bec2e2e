"""Converting between models of hf_vits and transformers' own models of the same architecture."""

from collections.abc import Iterable, Mapping

import torch
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.core_model_loading import WeightTransform

from ..core import apply_transforms, build, load


def check_expressible(config, required: dict) -> None:
    """Raise ValueError that names the first field whose value transformers' class cannot express."""
    for name, value in required.items():
        if getattr(config, name) != value:
            raise ValueError(
                f"transformers has no such model: it would need {name}={value!r}, this one has "
                f"{name}={getattr(config, name)!r}"
            )


def our_class(model: PreTrainedModel, classes: dict) -> type[PreTrainedModel]:
    """Return our class for a model of transformers, from {our class: transformers' class}.

    Raises ValueError for a model of any other class.
    """
    for ours, theirs in classes.items():
        if type(model) is theirs:
            return ours
    raise ValueError(f"expected {class_names(classes.values())} of transformers, got {type(model).__name__}")


def their_class(model: PreTrainedModel, classes: dict) -> type[PreTrainedModel]:
    """Return transformers' class for a model of ours, from {our class: transformers' class}.

    Raises ValueError for a model of any other class.
    """
    if type(model) not in classes:
        raise ValueError(f"expected {class_names(classes)} of hf_vits, got {type(model).__name__}")
    return classes[type(model)]


def class_names(classes: Iterable[type]) -> str:
    return ", ".join(sorted({one.__name__ for one in classes}))


def copy_fields(config, names: Iterable[str] | Mapping[str, str]) -> dict:
    """Return fields of a configuration: those called `names`, or {new name: field} for a mapping of names."""
    names = names if isinstance(names, Mapping) else {name: name for name in names}
    fields = {new: getattr(config, name) for new, name in names.items()}
    return {new: list(value) if isinstance(value, tuple) else value for new, value in fields.items()}


def read_theirs(
    theirs: PreTrainedModel,
    model_class: type[PreTrainedModel],
    fields: dict,
    layout: list[WeightTransform],
    **options,
) -> PreTrainedModel:
    """Return a model of `model_class` with the weights of transformers' model `theirs`.

    Args:
        fields: configuration fields of the new model.
        layout: transforms from transformers' keys to ours.
        options: further arguments of `model_class`.
    """
    tensors = apply_transforms(full_state(theirs), layout, theirs)
    return fill(build(model_class, fields, **options), tensors, theirs)


def write_theirs(
    ours: PreTrainedModel,
    model_class: type[PreTrainedModel],
    config: PreTrainedConfig,
    layout: list[WeightTransform],
    **options,
) -> PreTrainedModel:
    """Return a model of transformers' `model_class` with the weights of our model `ours`.

    Args:
        config: configuration of the new model.
        layout: transforms from transformers' keys to ours, each of which can be reversed.
        options: further arguments of `model_class`.
    """
    tensors = apply_transforms(full_state(ours), layout, ours, reverse=True)
    return fill(model_class(config, **options).eval(), tensors, ours)


def fill(model: PreTrainedModel, tensors: dict[str, torch.Tensor], source: PreTrainedModel) -> PreTrainedModel:
    """Load tensors under the keys of a model with a head into `model`, which may be one without."""
    if not hasattr(model, model.base_model_prefix):
        tensors = {key.removeprefix(f"{model.base_model_prefix}."): value for key, value in tensors.items()}
    load(model, tensors, type(source).__name__)
    return model


def full_state(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Return copies of the weights under the keys that they have in a model with a head."""
    prefix = "" if hasattr(model, model.base_model_prefix) else f"{model.base_model_prefix}."
    return {f"{prefix}{key}": value.detach().clone() for key, value in model.state_dict().items()}
