"""From a recipe to its model and processor: from scratch, an original checkpoint, or a pretrained model."""

import dataclasses
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import (
    AutoConfig,
    AutoModel,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
    PreTrainedConfig,
    PreTrainedModel,
    ProcessorMixin,
)

import hf_vits
from hf_vits import conversion
from hf_vits.evaluation.features import load_encoder, plain_encoder
from hf_vits.hub.pull import pull
from hf_vits.models.detection.modeling_detection import DetectorPreTrainedModel
from hf_vits.pretraining.linear_probe.modeling_linear_probe import LinearProbeForImageClassification
from hf_vits.recipe import InitializationRecipe, ModelRecipe

from ..task import Task
from .detectors import initialize_backbone
from .fitting import fit_model
from .segmentation import segmentation_processor, segmenter

# What odd values of fields cause; RuntimeError where a model needs more memory than there is.
_ERRORS = (StrictDataclassError, TypeError, ValueError, RuntimeError)


def build_model(recipe: ModelRecipe, head: dict[str, Any], task: Task) -> tuple[PreTrainedModel, Any]:
    """Return the recipe's model and the processor of its inputs.

    Args:
        head: configuration fields that fit the model's head to the data, such as id2label. A head of another number of
            classes is replaced by a new one.

    Raises:
        ValueError: fields that model or processor do not have, or a model that the task cannot train.
    """
    with _named("model.config", (StrictDataclassError,)):
        if recipe.pretrained is not None:
            model, processor = _from_pretrained(recipe, head, task)
        else:
            build = partial(_from_scratch, task=task) if recipe.checkpoint is None else _from_checkpoint
            model, processor = build(recipe, head)
        if recipe.probe is not None:
            probe = dataclasses.asdict(recipe.probe)
            model = LinearProbeForImageClassification.from_backbone(plain_encoder(model), **probe, **head)
        if recipe.segmentation is not None:
            model = segmenter(recipe.segmentation, plain_encoder(model), head)
            processor = segmentation_processor(processor, model)
    if processor is None or not isinstance(model, _classes_of(task, model)):
        raise ValueError(
            f"{recipe.pretrained or f'{recipe.system} {recipe.variant}'} is a {type(model).__name__}; this task "
            f"trains models that {task.auto_model.__name__} loads, on {task.noun}s{task.advice}"
        )
    if "head_sizes" in head and "head_sizes" not in type(model.config).__dataclass_fields__:
        raise ValueError(
            f"data.columns.label names several columns, but a {type(model).__name__} has one head; use a ViViT, "
            "which has a head per column"
        )
    return model, changed_processor(processor, recipe.processor)


def changed_processor(processor: Any, changes: dict[str, Any]) -> Any:
    """Return a processor with changed fields; of a joint one, changed fields of its parts.

    Raises:
        ValueError: it has no such field, or does not take the value.
    """
    if not changes:
        return processor
    is_joint = isinstance(processor, ProcessorMixin)
    parts = {name: getattr(processor, name) for name in processor.get_attributes()} if is_joint else {}
    if unknown := [name for name in changes if not (name in parts if is_joint else hasattr(processor, name))]:
        raise ValueError(f"model.processor: {type(processor).__name__} has no {', '.join(unknown)}")
    with _named("model.processor"):
        if not is_joint:
            return type(processor).from_dict(processor.to_dict() | changes)
        return type(processor)(**parts | {name: changed_processor(parts[name], new) for name, new in changes.items()})


@contextmanager
def _named(section: str, errors: tuple[type[Exception], ...] = _ERRORS) -> Iterator[None]:
    """Raise errors of these types as ValueError that names a section of the recipe."""
    try:
        yield
    except errors as error:
        raise ValueError(f"{section}: {' '.join(str(error).split())}") from error


def _classes_of(task: Task, model: PreTrainedModel) -> tuple[type, ...]:
    """Return the model classes that the task's Auto class builds from the model's configuration."""
    known = task.auto_model._model_mapping.get(type(model.config), ())
    return known if isinstance(known, tuple) else (known,)


def _from_scratch(recipe: ModelRecipe, head: dict, task: Task) -> tuple[PreTrainedModel, Any]:
    variants = conversion.variants(recipe.system)
    if recipe.variant not in variants:
        raise ValueError(f"model.variant: {recipe.system} has no {recipe.variant!r}, only {', '.join(variants)}")
    fields = {key: value for key, value in variants[recipe.variant].items() if key != "num_labels"}
    fields = changed(fields, recipe.config)
    try:
        target = None if recipe.target is None else load_target(recipe.target)
    except OSError as error:
        raise OSError(f"model.target: {error}") from error
    model_class = conversion.system(recipe.system).model_class(fields)
    if model_class is AutoModel._model_mapping.get(model_class.config_class, None):  # checkpoints without a head
        model_class = task.auto_model._model_mapping.get(model_class.config_class, model_class)
    _check_names(model_class.config_class, recipe.config)
    if target is not None:
        if not hasattr(model_class, "target_fields"):
            raise ValueError(f"model.target: a {model_class.__name__} predicts no features of a network; leave it out")
        fields |= model_class.target_fields(target)
    with _named("model.config"):
        config = model_class.config_class(**fields | head)
    _check_config(config, recipe.config)
    with _named("model.config"):
        model = model_class(config)
    if recipe.initialize_from is not None:
        initialize = initialize_backbone if isinstance(model, DetectorPreTrainedModel) else _initialize
        initialize(model, recipe.initialize_from)
    if target is not None:
        model.target_network.load_state_dict(target.state_dict())
    with _named("model.config"):
        return model, conversion.processor(recipe.system, recipe.variant, model)


def load_target(source: str) -> PreTrainedModel:
    """Load the network whose features are learned: transformers' CLIP, without its text tower, or an image encoder."""
    config = pull(AutoConfig, source)
    if config.model_type not in ("clip", "clip_vision_model"):
        return load_encoder(source)
    plain = config.architectures == [CLIPVisionModel.__name__]
    return pull(CLIPVisionModel if plain else CLIPVisionModelWithProjection, source)


def changed(fields: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return configuration fields with changes; a backbone's are merged unless its type changes."""
    merged = fields | changes
    for name in fields.keys() & changes.keys():
        before, now = fields[name], changes[name]
        if isinstance(before, dict) and isinstance(now, dict):
            same_type = now.get("model_type", before.get("model_type")) == before.get("model_type")
            merged[name] = before | now if same_type else now
    return merged


def _initialize(model: Any, recipe: InitializationRecipe) -> None:
    if not hasattr(model, "initialize_from"):
        raise ValueError(
            f"model.initialize_from: a {type(model).__name__} cannot start from another kind of model; leave it out"
        )
    options = {name: value for name, value in dataclasses.asdict(recipe).items() if value is not None}
    try:
        source = pull(AutoModel, options.pop("pretrained"))
    except OSError as error:
        raise OSError(f"model.initialize_from: {error}") from error
    if unknown := options.keys() - inspect.signature(model.initialize_from).parameters.keys():
        raise ValueError(f"model.initialize_from: a {type(model).__name__} has no {', '.join(sorted(unknown))}")
    known = ("hf_vits_", *getattr(model, "initialized_by", ()))
    if not source.config.model_type.startswith(known):
        source = conversion.from_transformers(source)
    model.initialize_from(source, **options)


def _from_checkpoint(recipe: ModelRecipe, head: dict) -> tuple[PreTrainedModel, Any]:
    state_dict = conversion.load_checkpoint(recipe.checkpoint)
    converted = conversion.convert(recipe.system, recipe.variant, state_dict, **recipe.config)
    processor = conversion.processor(recipe.system, recipe.variant, converted)
    return fit_model(converted, type(converted.config)(**converted.config.to_dict() | head), fit_head=True), processor


def _from_pretrained(recipe: ModelRecipe, head: dict, task: Task) -> tuple[PreTrainedModel, Any]:
    if recipe.segmentation is not None:
        encoder = load_encoder(recipe.pretrained)
        _check_names(type(encoder.config), recipe.config)
        config = type(encoder.config)(**encoder.config.to_dict() | recipe.config)
        return fit_model(encoder, config, fit_head=False), pull(task.auto_processor, recipe.pretrained)
    if recipe.probe is not None:
        encoder = load_encoder(recipe.pretrained, **recipe.config)
        _check_config(encoder.config, recipe.config)
        return encoder, pull(task.auto_processor, recipe.pretrained)
    saved = pull(AutoConfig, recipe.pretrained)
    _check_names(type(saved), recipe.config)
    config = AutoConfig.from_pretrained(recipe.pretrained, **recipe.config, **head)
    _check_config(config, recipe.config)
    trained, loaded = pull(_saved_class(saved, task), recipe.pretrained, output_loading_info=True)
    # Of a detector nothing may be missing: its heads are trained, too.
    base = "" if isinstance(trained, DetectorPreTrainedModel) else f"{trained.base_model_prefix}."
    if missing := sorted(name for name in loaded["missing_keys"] if name.startswith(base)):
        raise ValueError(f"model.pretrained: {recipe.pretrained} lacks weights, such as {', '.join(missing[:5])}")
    return fit_model(trained, config, fit_head=bool(head)), pull(task.auto_processor, recipe.pretrained)


def _saved_class(config: PreTrainedConfig, task: Task) -> type:
    """Return the class that a model was saved with, such as one with masks, if the task trains it, or an Auto class.

    The Auto class of object detection would load a Mask R-CNN without its mask head.
    """
    saved = getattr(hf_vits, (config.architectures or [""])[0], None)
    known = task.auto_model._model_mapping.get(type(config), ())
    known = known if isinstance(known, tuple) else (known,)
    return saved if isinstance(saved, type) and issubclass(saved, known) else task.auto_model


def _check_config(config: PreTrainedConfig, changes: dict) -> None:
    """Raise ValueError for changes to fields that neither the configuration nor its backbone's has."""
    _check_names(type(config), changes)
    for name, inner in changes.items():
        if isinstance(inner, dict) and isinstance(getattr(config, name), PreTrainedConfig):
            _check_config(getattr(config, name), inner)


def _check_names(config_class: type[PreTrainedConfig], changes: dict) -> None:
    """Raise ValueError for changes to what are no fields; some are properties, most of which cannot be set."""
    fields = config_class.__dataclass_fields__
    maps = {name for name in ("out_features", "out_indices") if f"_{name}" in fields}
    if unknown := sorted(map(str, changes.keys() - {"model_type", *maps, *fields})):
        raise ValueError(f"model.config: {config_class.__name__} has no field {', '.join(unknown)}")
