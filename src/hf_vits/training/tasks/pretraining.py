"""Self-supervised pretraining on images: masked autoencoders, and students with teachers."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import AutoImageProcessor, AutoModelForPreTraining, PreTrainedModel, TrainerCallback, set_seed

from hf_vits.configuration import pair
from hf_vits.data.images import SOURCES, backbone_config, image_mode
from hf_vits.data.images.priors import load_priors
from hf_vits.data.splits import Split, Splits, load_classes
from hf_vits.evaluation.features import extract, plain_encoder
from hf_vits.figures.features import draw_method
from hf_vits.figures.runs import draw_curves
from hf_vits.folders import temporary_folder
from hf_vits.hub.card import write_card
from hf_vits.layers.patch import square_grid
from hf_vits.optim.schedules import cosine, teacher_temperature
from hf_vits.recipe import DataRecipe, Recipe

from ..examples.image_augmentation import training_transform
from ..examples.images import EvaluationImages, TrainingImages
from ..examples.mixed_views import MixedViews
from ..examples.readable import ReadableSamples
from ..examples.selection import spaced_subset
from ..examples.views import MaskedPatches, PriorsOfViews, Views
from ..loop.callbacks import FrozenLastLayer, TeacherTemperature, TeacherUpdate
from ..loop.pretraining_trainer import PICTURES, PretrainingTrainer, pixel_features
from ..report import output
from ..report.card import training_card
from ..task import FinishedRun, Task, evaluated_splits

BACKBONE = "backbone"
_SHOWN_IMAGES = 8


class Pretraining(Task):
    """Task of pretraining without labels. Labels are only used by the nearest neighbours that measure the features."""

    auto_model = AutoModelForPreTraining
    auto_processor = AutoImageProcessor
    trainer = PretrainingTrainer
    noun = "image"

    def load_splits(self, recipe: DataRecipe) -> Splits:
        return load_classes(recipe, SOURCES)

    def head_fields(self, recipe: Recipe, splits: Splits) -> dict[str, Any]:
        return {}

    def training_set(self, recipe: Recipe, model: PreTrainedModel, processor, split: Split) -> Dataset:
        check_sections(recipe, model)
        size, mode = pair(backbone_config(model).image_size), image_mode(model)
        if recipe.views is None:
            return TrainingImages(split, training_transform(recipe.augmentation, processor, size), mode)
        masks = priors = None
        if recipe.masks is not None:
            masks = MaskedPatches(recipe.masks, recipe.views.num_global, square_grid(num_patches(model, size), size))
        if recipe.priors is not None:
            maps = load_priors(recipe.priors, split, mode)
            model.set_priors(maps)  # pyright: ignore[reportCallIssue]
            priors = PriorsOfViews(maps, size, model.patch_grid(size))  # pyright: ignore[reportCallIssue]
        return Views(split, recipe.views, processor, size, mode, masks, model.needs_view_boxes, priors)

    def evaluation_set(self, recipe: Recipe, model: PreTrainedModel, processor, split: Split) -> EvaluationImages:
        return EvaluationImages(split, processor, image_mode(model))

    def collator(self, recipe: Recipe, model: Any, processor, splits: Splits) -> Callable:
        mixes = recipe.views is not None and (recipe.views.mixup or recipe.views.cutmix)
        return MixedViews(model.collator(), recipe.views) if mixes else model.collator()

    def objective(self, recipe: Recipe) -> nn.Module:
        return nn.Identity()

    def attach(self, trainer: PretrainingTrainer, splits: Splits) -> None:
        recipe, processor = trainer.recipe, trainer.processor
        if recipe.momentum_teacher is not None:
            for callback in teacher_callbacks(recipe, trainer.model, trainer.args.max_steps):
                trainer.add_callback(callback)
        if (recipe.neighbours is not None or recipe.priors is not None) and hasattr(splits.train.labels, "stream"):
            raise ValueError("neighbours and priors need the training images by number, which a stream has not")
        if recipe.neighbours is not None:
            bank = ReadableSamples(self.evaluation_set(recipe, trainer.model, processor, splits.train), recipe)
            trainer.bank = spaced_subset(bank, recipe.neighbours.bank)
        trainer.pictures = Path(recipe.output.directory) / PICTURES
        trainer.shown = shown_images(trainer.eval_dataset)

    def evaluate(self, trainer: PretrainingTrainer, processor, splits: Splits) -> tuple[dict[str, Any], None]:
        """Return k-NN accuracy on the splits; on the test split also of the untrained backbone and of raw pixels."""
        results = {}
        for name, split in evaluated_splits(splits).items():
            dataset = self.evaluation_set(trainer.recipe, trainer.model, processor, split)
            results[name] = trainer.judge(partial(extract, plain_encoder(trainer.model)), dataset)
        if trainer.bank is not None:
            untrained = self.untrained(trainer.recipe).to(trainer.args.device)
            others = {"untrained": partial(extract, untrained), "pixel": pixel_features}
            results["test"] |= {
                f"{name}_knn_accuracy": trainer.judge(describe, dataset)["knn_accuracy"]
                for name, describe in others.items()
            }
        return results, None

    def untrained(self, recipe: Recipe) -> PreTrainedModel:
        """Return the backbone as it was before training."""
        from ..building import build_model

        set_seed(recipe.train.seed)
        model: Any = build_model(recipe.model, {}, self)[0]
        return model.export().eval()

    def write_report(self, run: FinishedRun) -> None:
        """Write README.md with curves and the method's picture, and the plain backbone into a directory of its own."""
        backbone = run.directory / BACKBONE
        backbone.mkdir(exist_ok=True)
        model: Any = run.model
        output.save_model(backbone, model.export(), run.processor)
        with temporary_folder() as drawn:
            curves, seen = drawn / "curves.png", drawn / "what_it_sees.png"
            draw_curves(run.history, curves)
            images = self.evaluation_set(run.recipe, run.model, run.processor, run.splits.test)
            draw_method(run.model, shown_images(images), run.processor, seen)
            write_card(training_card(run, self.noun, [curves, seen]), run.directory)


def shown_images(dataset: Dataset) -> torch.Tensor:
    """Return the pixel_values (images, channels, height, width) of some evenly spaced images, to be drawn."""
    images = spaced_subset(dataset, _SHOWN_IMAGES)
    return torch.stack([images[index]["pixel_values"] for index in range(len(images))])


def num_patches(model: Any, size: tuple[int, int]) -> int:
    """Return the number of patch tokens that the backbone returns for an image of `size` (height, width)."""
    backbone, config = model.export(), backbone_config(model)
    with torch.no_grad():
        tokens = backbone.eval()(torch.zeros(1, config.num_channels, *size)).last_hidden_state
    return tokens.shape[1] - config.num_prefix_tokens


def check_sections(recipe: Recipe, model: Any) -> None:
    """Raise ValueError where the recipe lacks a section that the method needs, or has one that it does not take."""
    for name in ("views", "masks", "priors", "momentum_teacher"):
        needs = name in model.recipe_sections
        if needs != (getattr(recipe, name) is not None):
            verb = "needs" if needs else "takes no"
            raise ValueError(f"{type(model).__name__} {verb} section `{name}` in its recipe")
    if recipe.views is not None:
        if model.needs_overlap != (recipe.views.overlap is not None):
            verb = "needs" if model.needs_overlap else "takes no"
            raise ValueError(f"{type(model).__name__} {verb} `views.overlap` in its recipe")
        if model.needs_view_boxes and recipe.views.flip:
            raise ValueError(f"{type(model).__name__} needs views that are not flipped: set views.flip to 0")
        model.check_number_of_views(recipe.views.num_global, recipe.views.num_local)
        if (recipe.views.mixup or recipe.views.cutmix) and not model.takes_mixed_views:
            raise ValueError(
                f"views.mixup and views.cutmix are for EsViT with use_regions=False, this {type(model).__name__} "
                "takes no mixed views"
            )


def teacher_callbacks(recipe: Recipe, model: PreTrainedModel, total_steps: int) -> list[TrainerCallback]:
    """Return the callbacks that update the momentum teacher and its temperatures."""
    teacher, warmup = recipe.momentum_teacher, recipe.momentum_teacher.temperature_warmup
    temperatures = {"teacher_temperature": teacher_temperature(teacher.temperature[0], teacher.temperature[1], warmup)}
    if hasattr(model.objective, "teacher_patch_temperature"):
        first_epoch = recipe.masks.first_epoch if recipe.masks is not None else 0
        first, last = teacher.patch_temperature or teacher.temperature
        temperatures["teacher_patch_temperature"] = teacher_temperature(first, last, warmup, first_epoch)
    return [
        TeacherTemperature({name: value for name, value in temperatures.items() if hasattr(model.objective, name)}),
        FrozenLastLayer(teacher.frozen_last_layer),
        TeacherUpdate(cosine(teacher.momentum[0], teacher.momentum[1], total_steps)),
    ]


TASK = Pretraining()
