"""From a recipe to the objects of a run: model, processor, objective, data sets, trainer."""

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel, TrainerCallback, TrainingArguments
from transformers.utils import is_torch_bf16_gpu_available

from hf_vits import conversion
from hf_vits.data.splits import Splits
from hf_vits.evaluation.features import load_encoder, plain_encoder
from hf_vits.optim.averaging import WeightAverage
from hf_vits.optim.schedules import cosine
from hf_vits.pretraining.linear_probe.modeling_linear_probe import LinearProbeForImageClassification
from hf_vits.recipe import InitializationRecipe, ModelRecipe, Recipe, TrainRecipe
from hf_vits.recipe.fields import steps_of

from .loop.self_distillation import ClipEachGradient, WeightDecaySchedule
from .loop.teacher import load_teacher
from .loop.trainer import RecipeTrainer
from .report.output import CHECKPOINTS
from .task import Task


def build_model(recipe: ModelRecipe, head: dict[str, Any], task: Task) -> tuple[PreTrainedModel, Any]:
    """The recipe's model, and what prepares its inputs.

    Args:
        head: configuration fields by which the model's head fits the data. A head that fits others is replaced by a
            new one.

    Raises ValueError for what the model or processor does not know or cannot be.
    """
    try:
        if recipe.pretrained is not None:
            model, processor = _from_pretrained(recipe, head, task)
        else:
            model, processor = (_from_scratch if recipe.checkpoint is None else _from_checkpoint)(recipe, head)
        if recipe.probe is not None:
            probe = dataclasses.asdict(recipe.probe)
            model = LinearProbeForImageClassification.from_backbone(plain_encoder(model), **probe, **head)
    except StrictDataclassError as error:
        raise ValueError(f"model.config: {' '.join(str(error).split())}") from error
    if processor is None or not isinstance(model, _classes_of(task, model)):
        raise ValueError(
            f"{recipe.pretrained or f'{recipe.system} {recipe.variant}'} is a {type(model).__name__}; this task "
            f"trains what {task.auto_model.__name__} loads, on {task.noun}s"
        )
    if "head_sizes" in head and "head_sizes" not in type(model.config).__dataclass_fields__:
        raise ValueError(
            f"data.columns.label names several columns, but a {type(model).__name__} has one head; a ViViT gets one "
            "for each"
        )
    if unknown := [name for name in recipe.processor if not hasattr(processor, name)]:
        raise ValueError(f"model.processor: {type(processor).__name__} has no {', '.join(unknown)}")
    return model, type(processor).from_dict(processor.to_dict() | recipe.processor) if recipe.processor else processor


def _classes_of(task: Task, model: PreTrainedModel) -> tuple[type, ...]:
    """The classes that the task's Auto class makes of such a configuration."""
    known = task.auto_model._model_mapping.get(type(model.config), ())
    return known if isinstance(known, tuple) else (known,)


def _from_scratch(recipe: ModelRecipe, head: dict) -> tuple[PreTrainedModel, Any]:
    variants = conversion.variants(recipe.system)
    if recipe.variant not in variants:
        raise ValueError(f"{recipe.system} has no variant {recipe.variant!r}, only {', '.join(variants)}")
    fields = {key: value for key, value in variants[recipe.variant].items() if key != "num_labels"}
    fields = changed(fields, recipe.config)
    model_class = conversion.system(recipe.system).model_class(fields)
    config = model_class.config_class(**fields | head)
    _check_config(config, recipe.config)
    model = model_class(config)
    if recipe.initialize_from is not None:
        _initialize(model, recipe.initialize_from)
    return model, conversion.processor(recipe.system, recipe.variant, model)


def changed(fields: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Configuration fields with some changed; those of a backbone field by field, unless it is of another type."""
    merged = fields | changes
    for name in fields.keys() & changes.keys():
        before, now = fields[name], changes[name]
        if isinstance(before, dict) and isinstance(now, dict):
            same_type = now.get("model_type", before.get("model_type")) == before.get("model_type")
            merged[name] = before | now if same_type else now
    return merged


def _initialize(model: Any, recipe: InitializationRecipe) -> None:
    if not hasattr(model, "initialize_from"):
        raise ValueError(f"model.initialize_from: a {type(model).__name__} cannot start from another kind of model")
    options = {name: value for name, value in dataclasses.asdict(recipe).items() if value is not None}
    source = AutoModel.from_pretrained(options.pop("pretrained"))
    if unknown := options.keys() - inspect.signature(model.initialize_from).parameters.keys():
        raise ValueError(f"model.initialize_from: a {type(model).__name__} has no {', '.join(sorted(unknown))}")
    if not source.config.model_type.startswith("hf_vits_"):
        source = conversion.from_transformers(source)
    model.initialize_from(source, **options)


def _from_checkpoint(recipe: ModelRecipe, head: dict) -> tuple[PreTrainedModel, Any]:
    state_dict = conversion.load_checkpoint(recipe.checkpoint)
    converted = conversion.convert(recipe.system, recipe.variant, state_dict, **recipe.config)
    processor = conversion.processor(recipe.system, recipe.variant, converted)
    model = type(converted)(type(converted.config)(**converted.config.to_dict() | head))
    fitting = converted.state_dict()
    if any(fitting[key].shape != value.shape for key, value in model.state_dict().items()):
        fitting = {key: value for key, value in fitting.items() if key.startswith(f"{model.base_model_prefix}.")}
    model.load_state_dict(fitting, strict=False)
    return model, processor


def _from_pretrained(recipe: ModelRecipe, head: dict, task: Task) -> tuple[PreTrainedModel, Any]:
    if recipe.probe is not None:
        encoder = load_encoder(recipe.pretrained, **recipe.config)
        _check_config(encoder.config, recipe.config)
        return encoder, task.auto_processor.from_pretrained(recipe.pretrained)
    config = AutoConfig.from_pretrained(recipe.pretrained, **recipe.config, **head)
    _check_config(config, recipe.config)
    model = task.auto_model.from_pretrained(recipe.pretrained, config=config, ignore_mismatched_sizes=True)
    return model, task.auto_processor.from_pretrained(recipe.pretrained)


def _check_config(config: PreTrainedConfig, changes: dict) -> None:
    """Raise ValueError for changes to fields that the configuration, or that of its backbone, does not have."""
    known = {"model_type", *type(config).__dataclass_fields__}
    if unknown := sorted(set(changes) - known):
        raise ValueError(f"model.config: {type(config).__name__} has no field {', '.join(unknown)}")
    for name, inner in changes.items():
        if isinstance(inner, dict) and isinstance(getattr(config, name), PreTrainedConfig):
            _check_config(getattr(config, name), inner)


def build_trainer(recipe: Recipe, task: Task, model: PreTrainedModel, processor, splits: Splits) -> RecipeTrainer:
    """The trainer of a recipe, ready to train on `splits`."""
    train = recipe.train
    steps_per_epoch = len(splits.train) // train.batch_size
    args = training_arguments(recipe, steps_per_epoch)
    batches = task.batches(
        recipe,
        splits,
        accumulation=train.accumulation,
        processes=args.world_size,
        process=args.process_index,
        mix_steps=mixing_steps(recipe, steps_per_epoch),
    )
    trainer = task.trainer(
        model,
        args,
        recipe,
        train_dataset=task.training_set(recipe, model, processor, splits.train),
        eval_dataset=task.evaluation_set(recipe, model, processor, splits.validation),
        collator=task.collator(recipe, model, processor, splits),
        evaluation_collator=task.evaluation_collator(processor),
        batches=batches,
        processor=processor,
        objective=task.objective(recipe),
        teacher=load_teacher(recipe.teacher, processor, model.config.num_labels) if recipe.teacher else None,
        average=WeightAverage(model, train.ema_decay) if train.ema_decay is not None else None,
    )
    for callback in step_callbacks(recipe, args.max_steps):
        trainer.add_callback(callback)
    task.attach(trainer, splits)
    return trainer


def step_callbacks(recipe: Recipe, total_steps: int) -> list[TrainerCallback]:
    """What Trainer has no arguments for: the weight decay over time, gradients clipped one by one."""
    callbacks: list[TrainerCallback] = []
    if recipe.optimizer.final_weight_decay is not None:
        decay = cosine(recipe.optimizer.weight_decay, recipe.optimizer.final_weight_decay, total_steps)
        callbacks.append(WeightDecaySchedule(decay))
    if recipe.train.clip_each:
        callbacks.append(ClipEachGradient(recipe.train.max_grad_norm))
    return callbacks


def mixing_steps(recipe: Recipe, steps_per_epoch: int) -> int:
    """How many steps, from the first on, MixUp and CutMix are on."""
    if not (recipe.augmentation.mixup or recipe.augmentation.cutmix or recipe.audio.mixup):
        return 0
    until = recipe.augmentation.mix_until or recipe.train.length
    return steps_of(until, steps_per_epoch)


def training_arguments(recipe: Recipe, steps_per_epoch: int) -> TrainingArguments:
    """What Trainer itself needs to know."""
    train = recipe.train
    evaluate, save, log = (
        every and max(steps_of(every, steps_per_epoch), 1)
        for every in (train.evaluate_every, train.save_every, train.log_every)
    )
    return TrainingArguments(
        output_dir=str(Path(recipe.output.directory) / CHECKPOINTS),
        max_steps=steps_of(train.length, steps_per_epoch),
        per_device_eval_batch_size=train.evaluation_batch_size,
        gradient_accumulation_steps=train.accumulation,
        max_grad_norm=0.0 if train.clip_each else train.max_grad_norm or 0.0,
        bf16=use_bfloat16(train),
        use_cpu=not torch.accelerator.is_available(),
        eval_strategy="steps" if evaluate else "no",
        eval_steps=evaluate,
        save_strategy="steps" if save else "no",
        save_steps=save or 1,
        logging_strategy="steps",
        logging_steps=log,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        dataloader_num_workers=train.workers,
        dataloader_pin_memory=torch.accelerator.is_available(),
        activation_checkpointing=train.activation_checkpointing,
        full_determinism=train.deterministic,
        seed=train.seed,
        remove_unused_columns=False,
        label_names=["labels"],
        report_to="none",
    )


def use_bfloat16(train: TrainRecipe) -> bool:
    """Whether to train in bfloat16 autocast: where asked for, or by default on accelerators that have it."""
    if train.precision == "auto":
        return torch.cuda.is_available() and is_torch_bf16_gpu_available()
    return train.precision == "bf16"
