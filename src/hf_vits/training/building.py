"""From a recipe to the objects of a run: model, processor, objective, data sets, trainer."""

from collections.abc import Sequence
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageClassification,
    PreTrainedModel,
    TrainingArguments,
)
from transformers.utils import is_torch_bf16_gpu_available

from hf_vits import conversion, objectives

from .augmentation import EvaluationImages, TrainingCollator, TrainingImages, training_transform
from .averaging import WeightAverage
from .batches import GlobalBatches
from .data import Splits
from .output import CHECKPOINTS
from .recipe import ModelRecipe, ObjectiveRecipe, Recipe, TrainRecipe, steps_of
from .teacher import load_teacher
from .trainer import ImageClassificationTrainer


def build_model(recipe: ModelRecipe, class_names: Sequence[str]) -> tuple[PreTrainedModel, object]:
    """The recipe's model with a head for `class_names`, and its image processor.

    A head for other classes is replaced by a new one. Raises ValueError for what the model or processor does not
    know or cannot be.
    """
    labels = {
        "id2label": dict(enumerate(class_names)),
        "label2id": {name: index for index, name in enumerate(class_names)},
    }
    if recipe.pretrained is not None:
        build = _from_pretrained
    else:
        build = _from_scratch if recipe.checkpoint is None else _from_checkpoint
    try:
        model, processor = build(recipe, labels)
    except StrictDataclassError as error:
        raise ValueError(f"model.config: {' '.join(str(error).split())}") from error
    if processor is None:
        raise ValueError(f"{recipe.system} {recipe.variant} takes no images; recipes train image classifiers")
    if unknown := [name for name in recipe.processor if not hasattr(processor, name)]:
        raise ValueError(f"model.processor: {type(processor).__name__} has no {', '.join(unknown)}")
    return model, type(processor).from_dict(processor.to_dict() | recipe.processor)


def _from_scratch(recipe: ModelRecipe, labels: dict) -> tuple[PreTrainedModel, object]:
    variants = conversion.variants(recipe.system)
    if recipe.variant not in variants:
        raise ValueError(f"{recipe.system} has no variant {recipe.variant!r}, only {', '.join(variants)}")
    fields = {key: value for key, value in variants[recipe.variant].items() if key != "num_labels"} | recipe.config
    model_class = conversion.system(recipe.system).model_class(fields)
    _check_config(model_class.config_class, recipe.config)
    model = model_class(model_class.config_class(**fields | labels))
    return model, conversion.image_processor(recipe.system, recipe.variant, model)


def _from_checkpoint(recipe: ModelRecipe, labels: dict) -> tuple[PreTrainedModel, object]:
    state_dict = conversion.load_checkpoint(recipe.checkpoint)
    converted = conversion.convert(recipe.system, recipe.variant, state_dict, **recipe.config)
    processor = conversion.image_processor(recipe.system, recipe.variant, converted)
    if converted.config.num_labels == len(labels["id2label"]):
        converted.config.update(labels)
        return converted, processor
    model = type(converted)(type(converted.config)(**converted.config.to_dict() | labels))
    body = {key: value for key, value in converted.state_dict().items() if key.startswith("model.")}
    model.load_state_dict(body, strict=False)
    return model, processor


def _from_pretrained(recipe: ModelRecipe, labels: dict) -> tuple[PreTrainedModel, object]:
    config = AutoConfig.from_pretrained(recipe.pretrained, **recipe.config, **labels)
    _check_config(type(config), recipe.config)
    model = AutoModelForImageClassification.from_pretrained(
        recipe.pretrained, config=config, ignore_mismatched_sizes=True
    )
    return model, AutoImageProcessor.from_pretrained(recipe.pretrained)


def _check_config(config_class: type, config: dict) -> None:
    if unknown := sorted(set(config) - set(config_class.__dataclass_fields__)):
        raise ValueError(f"model.config: {config_class.__name__} has no field {', '.join(unknown)}")


def build_objective(recipe: ObjectiveRecipe) -> nn.Module:
    """Loss module of a recipe."""
    if recipe.cosub:
        return objectives.CoSubLoss(binarize=recipe.loss == "binary")
    base = {
        "cross_entropy": objectives.CrossEntropy(recipe.label_smoothing),
        "binary": objectives.BinaryCrossEntropy(),
        "sigmoid": objectives.SigmoidCrossEntropy(),
    }[recipe.loss]
    if recipe.distillation == "none":
        return base
    return objectives.DistillationLoss(base, recipe.distillation, recipe.alpha, recipe.temperature)


def build_trainer(recipe: Recipe, model: PreTrainedModel, processor, splits: Splits) -> ImageClassificationTrainer:
    """The trainer of a recipe, ready to train on `splits`."""
    config, train = model.config, recipe.train
    size = (config.image_size,) * 2 if isinstance(config.image_size, int) else tuple(config.image_size)
    mode = {1: "L", 3: "RGB"}[config.num_channels]
    steps_per_epoch = len(splits.train) // train.batch_size
    args = training_arguments(recipe, steps_per_epoch)
    batches = GlobalBatches(
        len(splits.train),
        train.batch_size,
        train.seed,
        repeats=recipe.augmentation.repeats,
        accumulation=train.accumulation,
        processes=args.world_size,
        process=args.process_index,
        mix_steps=mixing_steps(recipe, steps_per_epoch),
    )
    return ImageClassificationTrainer(
        model,
        args,
        recipe,
        train_dataset=TrainingImages(splits.train, training_transform(recipe.augmentation, processor, size), mode),
        eval_dataset=EvaluationImages(splits.validation, processor, mode),
        collator=TrainingCollator(recipe.augmentation, len(splits.class_names)),
        batches=batches,
        objective=build_objective(recipe.objective),
        teacher=load_teacher(recipe.teacher, processor, config.num_labels) if recipe.teacher else None,
        average=WeightAverage(model, train.ema_decay) if train.ema_decay is not None else None,
    )


def mixing_steps(recipe: Recipe, steps_per_epoch: int) -> int:
    """How many steps, from the first on, MixUp and CutMix are on."""
    if not recipe.augmentation.mixup and not recipe.augmentation.cutmix:
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
        max_grad_norm=train.max_grad_norm or 0.0,
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
