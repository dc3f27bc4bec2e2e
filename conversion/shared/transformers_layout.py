"""Between our models and transformers' own of the same architecture, whichever it is."""

import torch
from transformers import PreTrainedModel
from transformers.core_model_loading import WeightTransform

from ..core import apply_transforms, load


def check_expressible(config, required: dict) -> None:
    """Raise ValueError naming the first field whose value transformers' class cannot express."""
    for name, value in required.items():
        if getattr(config, name) != value:
            raise ValueError(
                f"transformers has no such model: it would need {name}={value!r}, this one has "
                f"{name}={getattr(config, name)!r}"
            )


def our_class(model: PreTrainedModel, classes: dict) -> type[PreTrainedModel]:
    for ours, theirs in classes.items():
        if type(model) is theirs:
            return ours
    raise ValueError(
        f"expected {', '.join(sorted({theirs.__name__ for theirs in classes.values()}))} of transformers, got "
        f"{type(model).__name__}"
    )


def read_theirs(ours: PreTrainedModel, theirs: PreTrainedModel, layout: list[WeightTransform]) -> PreTrainedModel:
    """Fill `ours` with the weights of `theirs`."""
    tensors = apply_transforms(full_state(theirs), layout, theirs)
    load(ours, restore_keys(ours, tensors), type(theirs).__name__)
    return ours


def write_theirs(ours: PreTrainedModel, theirs: PreTrainedModel, layout: list[WeightTransform]) -> PreTrainedModel:
    """Fill `theirs` with the weights of `ours`."""
    tensors = apply_transforms(full_state(ours), layout, ours, reverse=True)
    load(theirs, restore_keys(theirs, tensors), type(ours).__name__)
    return theirs.eval()


def full_state(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """The weights, those of a base model under the prefix that they have inside a model with a head."""
    prefix = "" if hasattr(model, model.base_model_prefix) else f"{model.base_model_prefix}."
    return {f"{prefix}{key}": value.detach().clone() for key, value in model.state_dict().items()}


def restore_keys(model: PreTrainedModel, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    if hasattr(model, model.base_model_prefix):
        return tensors
    return {key.removeprefix(f"{model.base_model_prefix}."): value for key, value in tensors.items()}
