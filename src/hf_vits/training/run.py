"""The training run of a recipe, from its YAML file to a saved model with its card."""

from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import set_seed

from hf_vits.folders import locked
from hf_vits.hub import push_to_hub
from hf_vits.recipe import Recipe, load_recipe

from . import tasks
from .building import build_model, build_trainer
from .launch import prefer_cpu
from .loop.history import HistoryFile
from .report import output
from .task import FinishedRun, Task


def run(source: str | Path | dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Train, evaluate and save the model of a recipe; see `hf_vits.training.train`."""
    recipe = load_recipe(source, overrides)
    task = tasks.load(recipe.task)
    directory = Path(recipe.output.directory)
    output.check_directory(recipe)
    if results := output.stored_results(directory):
        return results

    prefer_cpu()
    # Without accelerators it connects processes only where it is told to use the CPU.
    processes = PartialState(cpu=not torch.accelerator.is_available())
    with locked(directory) if processes.is_main_process else nullcontext():
        if processes.is_main_process:
            output.remove_leftovers(directory)
        return _run(recipe, task, processes)


def _run(recipe: Recipe, task: Task, processes: PartialState) -> dict[str, Any]:
    directory = Path(recipe.output.directory)
    set_seed(recipe.train.seed)
    with processes.main_process_first():
        splits = task.load_splits(recipe.data)
    model, processor = build_model(recipe.model, task.head_fields(recipe, splits), task)
    processor = task.fit_processor(recipe, processor, splits)
    trainer = build_trainer(recipe, task, model, processor, splits)
    trainer.add_callback(HistoryFile(directory / output.HISTORY))
    if processes.is_main_process:
        output.write_recipe(recipe)

    trainer.train(resume_from_checkpoint=output.last_checkpoint(directory))
    if recipe.train.use_ema:
        trainer.average.copy_to(model)

    measured, details = task.evaluate(trainer, processor, splits)
    results = {
        "steps": trainer.state.global_step,
        "processes": trainer.args.world_size,
        **{f"{name}_{task.noun}s": len(getattr(splits, name)) for name in ("train", "validation", "test")},
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
