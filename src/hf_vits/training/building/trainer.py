"""From a recipe to its trainer: batches, data sets, objective, teacher, callbacks, and transformers' arguments."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, TrainerCallback, TrainingArguments
from transformers.integrations.integration_utils import (
    INTEGRATION_TO_CALLBACK,
    get_available_reporting_integrations,
)
from transformers.utils import is_torch_bf16_gpu_available

from hf_vits.data.splits import Splits
from hf_vits.objectives import CrossEntropy, balanced_weights
from hf_vits.optim.averaging import WeightAverage
from hf_vits.optim.schedules import cosine
from hf_vits.recipe import Recipe, TrainRecipe
from hf_vits.recipe.fields import steps_of

from ..examples.readable import ReadableSamples
from ..loop.callbacks import ClipEachGradient, Progress, WeightDecaySchedule
from ..loop.teacher import load_teacher
from ..loop.trainer import RecipeTrainer
from ..report.output import CHECKPOINTS
from ..task import Task, steps_per_epoch


def assemble_trainer(
    recipe: Recipe, task: Task, model: PreTrainedModel, processor: Any, splits: Splits
) -> RecipeTrainer:
    """Return the recipe's trainer, ready to train on `splits`."""
    train = recipe.train
    epoch = steps_per_epoch(recipe, splits)
    args = training_arguments(recipe, epoch)
    check_sharding(recipe, task, args.world_size)
    batches = task.batches(
        recipe,
        splits,
        accumulation=train.accumulation,
        processes=args.world_size,
        process=args.process_index,
        mix_steps=mixing_steps(recipe, epoch),
    )
    trainer = task.trainer(
        model,
        args,
        recipe,
        train_dataset=ReadableSamples(task.training_set(recipe, model, processor, splits.train), recipe),
        eval_dataset=task.evaluation_set(recipe, model, processor, splits.validation),
        collator=task.collator(recipe, model, processor, splits),
        evaluation_collator=task.evaluation_collator(processor),
        batches=batches,
        processor=processor,
        objective=weighted(task.objective(recipe), recipe, splits),
        teacher=load_teacher(recipe.teacher, processor, splits.class_names) if recipe.teacher else None,
        average=WeightAverage(model, train.ema_decay) if train.ema_decay is not None else None,
    )
    for callback in step_callbacks(recipe, args.max_steps):
        trainer.add_callback(callback)
    task.attach(trainer, splits)
    return trainer


def check_sharding(recipe: Recipe, task: Task, processes: int) -> None:
    """Raise ValueError where the recipe asks for sharding that is not possible."""
    if recipe.train.sharding == "none":
        return
    if not task.trainer.shards:
        raise ValueError(
            f"train.sharding: full is for classification and pretraining, not for task {recipe.task}: set it to none"
        )
    if recipe.optimizer.name == "adafactor":
        raise ValueError(
            "train.sharding: full does not divide the factored state of optimizer.name: adafactor; choose adamw, "
            "lamb, lars or sgd"
        )
    if processes == 1:
        raise ValueError(
            "train.sharding: full divides the model among processes, and this run has one: start it with "
            "`accelerate launch --num_processes N -m hf_vits.training RECIPE`, or set train.sharding=none"
        )


def weighted(objective: nn.Module, recipe: Recipe, splits: Splits) -> nn.Module:
    """Return the objective with the class weights of the recipe.

    Raises:
        ValueError: the inputs do not have one class each, or a class that is named does not exist.
    """
    wanted = recipe.objective.class_weights
    if wanted is None:
        return objective
    if not isinstance(objective, CrossEntropy) or not splits.has_one_class:
        raise ValueError("objective.class_weights is for inputs of one class each, of which a classifier is trained")
    if isinstance(wanted, str) and hasattr(splits.train.labels, "stream"):
        raise ValueError("objective.class_weights: balanced needs all labels; for a stream write {class: weight}")
    if isinstance(wanted, str):
        objective.class_weights = balanced_weights(torch.from_numpy(splits.train.labels), len(splits.class_names))
        return objective
    if unknown := [name for name in wanted if name not in splits.class_names]:
        raise ValueError(
            f"objective.class_weights: the data have no class {', '.join(unknown)}, only "
            f"{', '.join(splits.class_names[:20])}{', ...' if len(splits.class_names) > 20 else ''}"
        )
    objective.class_weights = torch.tensor([wanted.get(name, 1.0) for name in splits.class_names])
    return objective


def step_callbacks(recipe: Recipe, total_steps: int) -> list[TrainerCallback]:
    """Return callbacks for what TrainingArguments lack: schedules, and clipping of each gradient."""
    callbacks: list[TrainerCallback] = [Progress()]
    if recipe.optimizer.final_weight_decay is not None:
        decay = cosine(recipe.optimizer.weight_decay, recipe.optimizer.final_weight_decay, total_steps)
        callbacks.append(WeightDecaySchedule(decay))
    if recipe.train.clip_each:
        callbacks.append(ClipEachGradient(recipe.train.max_grad_norm))
    return callbacks


def mixing_steps(recipe: Recipe, steps_per_epoch: int) -> int:
    """Return the number of steps, from the first on, in which batches are mixed by MixUp or CutMix."""
    if not (recipe.augmentation.mixup or recipe.augmentation.cutmix or recipe.audio.mixup):
        return 0
    until = recipe.augmentation.mix_until or recipe.train.length
    return steps_of(until, steps_per_epoch)


def training_arguments(recipe: Recipe, steps_per_epoch: int) -> TrainingArguments:
    """Return the arguments of transformers' Trainer."""
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
        torch_compile=train.compile,
        full_determinism=train.deterministic,
        seed=train.seed,
        remove_unused_columns=False,
        label_names=["labels"],
        report_to=trackers(train.report_to),
    )


def trackers(names: Sequence[str]) -> list[str] | str:
    """Return the trackers of a recipe as transformers' argument `report_to`.

    Raises:
        ValueError: transformers has no such tracker.
        ImportError: its package is not installed.
    """
    available = get_available_reporting_integrations() if names else []
    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            raise ValueError(f"train.report_to: {name!r} is none of {', '.join(sorted(INTEGRATION_TO_CALLBACK))}")
        if name not in available:
            raise ImportError(f"train.report_to: {name} is not installed: pip install {name.replace('_', '-')}")
    return list(names) or "none"


def use_bfloat16(train: TrainRecipe) -> bool:
    """Return whether to train in bfloat16 autocast: if the recipe says so, or by default on GPUs that support it."""
    if train.precision == "auto":
        return torch.cuda.is_available() and is_torch_bf16_gpu_available()
    return train.precision == "bf16"
