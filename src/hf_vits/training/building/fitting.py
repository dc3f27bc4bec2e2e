"""A trained model for other data: another input size, other classes, classes in another order."""

import logging
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from hf_vits.layers.position import (
    PositionEmbedding,
    SeparablePositionEmbedding,
    interpolate_positions,
    interpolate_sequence,
)
from hf_vits.layers.relative_position import DecomposedRelativePositions
from hf_vits.models.detection.modeling_detection import DetectorPreTrainedModel

from ..class_order import class_order

logger = logging.getLogger(__name__)


def fit_model(trained: PreTrainedModel, config: PreTrainedConfig, *, fit_head: bool) -> PreTrainedModel:
    """Return a model of `config` with the weights of a trained one.

    Position tables are interpolated to the new size as the model itself interpolates them for another input.

    Args:
        fit_head: whether the model's head, such as a classifier, may be replaced: it is kept if it has the same
            classes, reordered by their names, and is new otherwise. A norm after pooling that the trained model lacks
            is new, too.

    Raises:
        ValueError: other weights do not fit, or the head cannot be reordered.
    """
    model = type(trained)(config).to(trained.dtype)
    weights = trained.state_dict() | resized_positions(trained, model)
    head = head_weights(trained, model) if fit_head else {}
    expected = model.state_dict()
    if fit_head:  # fine-tuning with a norm after pooling starts with a new one, as in MAE
        head |= {name: None for name in expected if ".pooler.norm." in name and name not in weights}
    wrong = {
        name: (tuple(weights[name].shape) if name in weights else None, tuple(value.shape))
        for name, value in expected.items()
        if name not in head and (name not in weights or weights[name].shape != value.shape)
    }
    if wrong:
        listed = ", ".join(f"{name} {before} -> {after}" for name, (before, after) in list(wrong.items())[:5])
        raise ValueError(
            f"model.config: {len(wrong)} weights of the pretrained {type(model).__name__} do not fit ({listed}"
            f"{', ...' if len(wrong) > 5 else ''}); position tables of hf_vits' models can be resized and heads "
            "replaced, nothing else: leave these fields out"
        )
    fitting = {name: value for name, value in (weights | head).items() if name in expected and value is not None}
    model.load_state_dict(fitting, strict=False)
    return model


def resized_positions(trained: nn.Module, model: nn.Module) -> dict[str, Tensor]:
    """Return the position tables of a trained model, by name, interpolated where the other model's differ in size."""
    resized = {}
    modules = dict(trained.named_modules())
    for prefix, new in model.named_modules():
        old = modules.get(prefix)
        if isinstance(new, PositionEmbedding) and isinstance(old, PositionEmbedding):
            tables = {"table": interpolate_positions(old.table, old.grid, new.grid, new.interpolation)}
        elif isinstance(new, SeparablePositionEmbedding) and isinstance(old, SeparablePositionEmbedding):
            tables = {"temporal": interpolate_sequence(old.temporal, new.temporal.shape[1])}
        elif isinstance(new, DecomposedRelativePositions) and isinstance(old, DecomposedRelativePositions):
            pairs = zip(old.tables, new.tables, strict=True)
            tables = {
                f"tables.{axis}": interpolate_sequence(table[None], len(sized))[0]
                for axis, (table, sized) in enumerate(pairs)
            }
        else:
            continue
        resized |= {f"{prefix}.{name}": table.detach() for name, table in tables.items()}
    return resized


def head_weights(trained: PreTrainedModel, model: PreTrainedModel) -> dict[str, Tensor | None]:
    """Return by name the weights of the head that are reordered, or None for those that are new."""
    if isinstance(trained, DetectorPreTrainedModel):
        return detector_weights(trained, model)
    before, now = trained.state_dict(), model.state_dict()
    counts = trained.config.num_labels, model.config.num_labels
    base = f"{model.base_model_prefix}."
    outside = [name for name in now if not name.startswith(base)]
    new = [name for name in outside if name not in before or before[name].shape != now[name].shape]
    if counts[0] != counts[1]:
        # The classifier may be inside, as in transformers' wrapper of timm's models.
        shapes = {name: (before[name].shape, now[name].shape) for name in before.keys() & now.keys()}
        new += [
            name for name, (old, sized) in shapes.items() if (*old[:1], *sized[:1]) == counts and old[1:] == sized[1:]
        ]
    if new or counts[0] != counts[1]:
        return dict.fromkeys(new)
    outputs = {
        f"{prefix}.{name}": weight.detach()
        for prefix, module in trained.named_modules()
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d) and not f"{prefix}.".startswith(base)
        for name, weight in module.named_parameters()
        if len(module.weight) == counts[0]
    }
    # Weights with a row for each label, which the model names.
    outputs |= {name: before[name] for name in getattr(trained, "label_weights", ())}
    try:
        order = class_order(trained.config.id2label, class_names(model.config.id2label))
    except ValueError:
        return dict.fromkeys(outputs)
    if order is None or order == list(range(len(order))):
        return {}
    if not outputs or any(name not in outputs and counts[0] in now[name].shape for name in outside):
        known = ", ".join(class_names(trained.config.id2label)[:5])
        raise ValueError(
            f"the pretrained {type(model).__name__} has the data's classes in another order ({known}, ...), and its "
            "head cannot be reordered: bring the classes of the data into this order"
        )
    return {name: weight[torch.tensor(order, device=weight.device)] for name, weight in outputs.items()}


def detector_weights(trained: DetectorPreTrainedModel, model: PreTrainedModel) -> dict[str, Tensor | None]:
    """Return what `head_weights` does of a detector: its weights with rows for classes, and no others."""
    known, wanted = trained.config.id2label, class_names(model.config.id2label)
    try:
        order = class_order(known, wanted) or list(range(len(known)))
    except ValueError:
        order = []
    rows = trained.label_rows(order)
    if len(order) != len(wanted):
        logger.warning("new for the data's %d classes: %s; all else is as trained", len(wanted), ", ".join(rows))
        return dict.fromkeys(rows)
    before = trained.state_dict()
    return {name: before[name][index.to(before[name].device)] for name, index in rows.items()}


def class_names(id2label: Mapping[int, str]) -> list[str]:
    """Return the class names of a configuration in their order."""
    return [id2label[index] for index in sorted(id2label)]
