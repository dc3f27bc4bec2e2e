"""The training run of a recipe, from its YAML file to a saved model with its card."""

from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import PartialState
from transformers import PreTrainedModel, TrainerCallback, set_seed
from transformers.trainer_utils import has_length

from hf_vits.data.splits import Splits, readable
from hf_vits.folders import locked
from hf_vits.hub import push_to_hub
from hf_vits.recipe import Recipe, load_recipe

from . import tasks
from .building import assemble_trainer, build_model
from .examples.readable import UNREADABLE, unreadable_files
from .launch import prefer_cpu
from .loop.best import BEST, BestWeights
from .loop.history import HistoryFile
from .loop.trainer import RecipeTrainer
from .report import output
from .task import FinishedRun, Task


class Built(NamedTuple):
    """The objects of a run."""

    task: Task
    splits: Splits
    model: PreTrainedModel
    processor: Any
    trainer: RecipeTrainer


def run(
    source: str | Path | dict[str, Any], overrides: Iterable[str], callbacks: Iterable[TrainerCallback] = ()
) -> dict[str, Any]:
    """Train, evaluate and save the model of a recipe; see `hf_vits.training.train`."""
    recipe = load_recipe(source, overrides)
    directory = Path(recipe.output.directory)
    grows = output.check_directory(recipe)
    if not grows and (results := output.stored_results(directory)):
        return results

    tasks.load(recipe.task)  # an unknown task is an error before the directory is made
    processes = connected()
    with locked(directory) if processes.is_main_process else nullcontext():
        if processes.is_main_process:
            output.remove_leftovers(directory)
        return _run(recipe, processes, callbacks)


def connected() -> PartialState:
    """Connect the processes of a run, on the CPU where there is no accelerator, and return their state."""
    prefer_cpu()
    # Without accelerators it connects processes only where it is told to use the CPU.
    return PartialState(cpu=not torch.accelerator.is_available())


def build(recipe: Recipe) -> Built:
    """Return the objects of a recipe's run."""
    processes = connected()
    task = tasks.load(recipe.task)
    set_seed(recipe.train.seed)
    with processes.main_process_first():
        splits = readable(task.load_splits(recipe.data), recipe.data)
    model, processor = build_model(recipe.model, task.head_fields(recipe, splits), task)
    processor = task.fit_processor(recipe, processor, splits)
    return Built(task, splits, model, processor, assemble_trainer(recipe, task, model, processor, splits))


def _run(recipe: Recipe, processes: PartialState, callbacks: Iterable[TrainerCallback]) -> dict[str, Any]:
    directory = Path(recipe.output.directory)
    task, splits, _, processor, trainer = build(recipe)
    trainer.add_callback(HistoryFile(directory / output.HISTORY))
    best = best_weights(recipe, trainer)
    for callback in [*([best] if best else []), *callbacks]:
        trainer.add_callback(callback)
    checkpoint = output.last_checkpoint(directory)
    if processes.is_main_process:
        output.reopen(directory)
        if checkpoint is None:
            (directory / UNREADABLE).unlink(missing_ok=True)
        output.write_recipe(recipe)

    trainer.train(resume_from_checkpoint=checkpoint)
    model, chosen = trainer.model, {}  # a sharded model was replaced
    processes.wait_for_everyone()
    if best:
        chosen["best_step"] = best.load(model)
    elif recipe.train.use_ema:
        trainer.average.copy_to(model)
    trainer.average = None  # what is measured from here on are the chosen weights

    unreadable = unreadable_files(directory / UNREADABLE)
    measured, details = task.evaluate(trainer, processor, splits)
    results = {
        "steps": trainer.state.global_step,
        **chosen,
        "processes": trainer.args.world_size,
        **count_inputs(splits, task.noun),
        **({f"unreadable_{task.noun}s": len(unreadable)} if unreadable else {}),
        "parameters": sum(p.numel() for p in model.parameters()),
        **measured,
    }
    if processes.is_main_process:
        output.save_model(directory, model, processor)
        history = trainer.state.log_history
        task.write_report(FinishedRun(directory, recipe, model, processor, splits, results, history, details))
        if recipe.output.push_to_hub:
            card, private = directory / output.CARD, recipe.output.private
            push_to_hub(model, recipe.output.push_to_hub, processor, card=card, private=private)
        output.write_results(directory, results)
    processes.wait_for_everyone()
    return results


def count_inputs(splits: Splits, noun: str) -> dict[str, int]:
    """Return the number of inputs of each split; a stream without epochs has none."""
    parts = {name: getattr(splits, name) for name in ("train", "validation", "test")}
    return {f"{name}_{noun}s": len(part) for name, part in parts.items() if has_length(part)}


def best_weights(recipe: Recipe, trainer: RecipeTrainer) -> BestWeights | None:
    """Return the callback that keeps the best weights, or None if the recipe wants the last ones."""
    if recipe.output.best is None:
        return None
    path = Path(trainer.args.output_dir) / BEST
    average = trainer.average if recipe.train.use_ema else None
    return BestWeights(path, recipe.output.best, recipe.train.early_stopping, average)
