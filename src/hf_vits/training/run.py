"""The training run that a recipe describes, from its file to a model that can be shared."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from transformers import set_seed

from hf_vits.hub import push_to_hub

from . import output
from .augmentation import EvaluationImages
from .building import build_model, build_trainer
from .data import Splits, load_splits
from .evaluation import confusion
from .history import HistoryFile
from .launch import prefer_cpu
from .recipe import load_recipe
from .report import write_report
from .trainer import ImageClassificationTrainer


def run(recipe: str | Path | dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """See `hf_vits.training.train`."""
    recipe = load_recipe(recipe, overrides)
    directory = Path(recipe.output.directory)
    output.check_directory(recipe)
    if results := output.stored_results(directory):
        return results

    prefer_cpu()
    processes = PartialState()
    set_seed(recipe.train.seed)
    with processes.main_process_first():
        splits = load_splits(recipe.data)
    model, processor = build_model(recipe.model, splits.class_names)
    trainer = build_trainer(recipe, model, processor, splits)
    trainer.add_callback(HistoryFile(directory / output.HISTORY))
    if processes.is_main_process:
        output.write_recipe(recipe)

    trainer.train(resume_from_checkpoint=output.last_checkpoint(directory))
    if recipe.train.use_ema:
        trainer.average.copy_to(model)

    results, matrix = evaluate(trainer, splits)
    if processes.is_main_process:
        history = trainer.state.log_history
        output.save_model(directory, model, processor)
        output.write_confusion(directory, matrix, splits.class_names)
        write_report(directory, recipe, model, processor, splits, results, history, matrix)
        if recipe.output.push_to_hub:
            card, private = directory / output.CARD, recipe.output.private
            push_to_hub(model, recipe.output.push_to_hub, processor, card=card, private=private)
        output.write_results(directory, results)
    processes.wait_for_everyone()
    return results


def evaluate(trainer: ImageClassificationTrainer, splits: Splits) -> tuple[dict[str, Any], np.ndarray]:
    """Results of a trained model, and its confusion matrix on the test images."""
    results = {
        "steps": trainer.state.global_step,
        "processes": trainer.args.world_size,
        "train_images": len(splits.train),
        "validation_images": len(splits.validation),
        "test_images": len(splits.test),
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
    }
    names = ("test",) if splits.validation is splits.test else ("validation", "test")
    for name in names:
        dataset = EvaluationImages(getattr(splits, name), trainer.eval_dataset.processor, trainer.eval_dataset.mode)
        prediction = trainer.predict(dataset, metric_key_prefix=name)
        results[name] = {key: prediction.metrics[f"{name}_{key}"] for key in ("loss", "accuracy", "top5_accuracy")}
    rankings, _ = prediction.predictions
    return results, confusion(rankings, prediction.label_ids, len(splits.class_names))
