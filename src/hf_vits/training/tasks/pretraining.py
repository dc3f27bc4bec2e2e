"""Images without their labels: masked autoencoders, students and teachers."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import AutoImageProcessor, AutoModelForPreTraining, PreTrainedModel, TrainerCallback, set_seed

from hf_vits.data.images import SOURCES, backbone_config, image_mode
from hf_vits.data.splits import Split, Splits, load_classes
from hf_vits.evaluation.features import extract, plain_encoder
from hf_vits.figures.pretraining import draw_what_it_sees
from hf_vits.figures.runs import draw_curves
from hf_vits.hub.card import write_card
from hf_vits.layers.patch import pair, square_grid
from hf_vits.optim.schedules import cosine, teacher_temperature
from hf_vits.pretraining.sit.configuration_sit import SiTConfig
from hf_vits.recipe import DataRecipe, Recipe

from ..examples.images import EvaluationImages, TrainingImages, training_transform
from ..examples.views import CorruptingCollator, MaskedPatches, Views, collate_views
from ..loop.pretraining import PICTURES, PretrainingTrainer, evenly, pixels
from ..loop.self_distillation import FrozenLastLayer, TeacherTemperature, TeacherUpdate
from ..report import output
from ..report.card import training_card
from ..task import FinishedRun, Task

BACKBONE = "backbone"
_SHOWN_IMAGES = 8


class Pretraining(Task):
    """Labels are read by the neighbours that judge the features, and by nothing else."""

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
        masks = None
        if recipe.masks is not None:
            masks = MaskedPatches(recipe.masks, recipe.views.num_global, square_grid(num_patches(model, size), size))
        return Views(split, recipe.views, processor, size, mode, masks)

    def evaluation_set(self, recipe: Recipe, model: PreTrainedModel, processor, split: Split) -> EvaluationImages:
        return EvaluationImages(split, processor, image_mode(model))

    def collator(self, recipe: Recipe, model: PreTrainedModel, processor, splits: Splits) -> Callable:
        return CorruptingCollator(model.config) if isinstance(model.config, SiTConfig) else collate_views

    def objective(self, recipe: Recipe) -> nn.Module:
        return nn.Identity()

    def attach(self, trainer: PretrainingTrainer, splits: Splits) -> None:
        recipe, processor = trainer.recipe, trainer.processor
        if recipe.momentum_teacher is not None:
            for callback in teacher_callbacks(recipe, trainer.model, trainer.args.max_steps):
                trainer.add_callback(callback)
        if recipe.neighbours is not None:
            bank = self.evaluation_set(recipe, trainer.model, processor, splits.train)
            trainer.bank = evenly(bank, recipe.neighbours.bank)
        trainer.pictures = Path(recipe.output.directory) / PICTURES
        shown = evenly(trainer.eval_dataset, _SHOWN_IMAGES)
        trainer.shown = torch.stack([shown[index]["pixel_values"] for index in range(len(shown))])

    def evaluate(self, trainer: PretrainingTrainer, processor, splits: Splits) -> tuple[dict[str, Any], None]:
        """Neighbours' accuracy on the splits; on the test split also before training, and by the pixels themselves."""
        results = {}
        for name in ("test",) if splits.validation is splits.test else ("validation", "test"):
            dataset = self.evaluation_set(trainer.recipe, trainer.model, processor, getattr(splits, name))
            results[name] = trainer.judge(partial(extract, plain_encoder(trainer.model)), dataset)
        if trainer.bank is not None:
            untrained = self.untrained(trainer.recipe).to(trainer.args.device)
            others = {"untrained": partial(extract, untrained), "pixel": pixels}
            results["test"] |= {
                f"{name}_knn_accuracy": trainer.judge(describe, dataset)["knn_accuracy"]
                for name, describe in others.items()
            }
        return results, None

    def untrained(self, recipe: Recipe) -> PreTrainedModel:
        """The backbone that the run started from."""
        from ..building import build_model

        set_seed(recipe.train.seed)
        model: Any = build_model(recipe.model, {}, self)[0]
        return model.export().eval()

    def write_report(self, run: FinishedRun) -> None:
        """README.md with curves and what the model sees drawn beside it, and the plain backbone in a directory."""
        backbone = run.directory / BACKBONE
        backbone.mkdir(exist_ok=True)
        model: Any = run.model
        output.save_model(backbone, model.export(), run.processor)
        with tempfile.TemporaryDirectory() as drawn:
            curves, seen = Path(drawn, "curves.png"), Path(drawn, "what_it_sees.png")
            draw_curves(run.history, curves)
            images = evenly(self.evaluation_set(run.recipe, run.model, run.processor, run.splits.test), _SHOWN_IMAGES)
            shown = torch.stack([images[index]["pixel_values"] for index in range(len(images))])
            draw_what_it_sees(run.model, shown, run.processor, seen)
            write_card(training_card(run, self.noun, [curves, seen]), run.directory)


def num_patches(model: Any, size: tuple[int, int]) -> int:
    """How many patches a mask of an image (height, width) tells of: those that come out of the backbone."""
    backbone, config = model.export(), backbone_config(model)
    with torch.no_grad():
        tokens = backbone.eval()(torch.zeros(1, config.num_channels, *size)).last_hidden_state
    return tokens.shape[1] - config.num_prefix_tokens


def check_sections(recipe: Recipe, model: PreTrainedModel) -> None:
    """Raise ValueError where the recipe lacks a section that the model needs, or has one that it does not."""
    compares = "backbone_config" in model.config.to_dict()
    masked = getattr(model.config, "masking", None) == "given"
    follows = getattr(model, "teacher", None) is not None
    needed = {"views": compares, "masks": masked, "momentum_teacher": follows}
    for name, needs in needed.items():
        if needs != (getattr(recipe, name) is not None):
            verb = "needs" if needs else "takes no"
            raise ValueError(f"{type(model).__name__} {verb} section `{name}` in its recipe")
    if isinstance(model.config, SiTConfig) and (recipe.views.num_global, recipe.views.num_local) != (2, 0):
        raise ValueError(
            "SiT compares two views: views.num_global must be 2 and views.num_local 0, got "
            f"{recipe.views.num_global} and {recipe.views.num_local}"
        )


def teacher_callbacks(recipe: Recipe, model: PreTrainedModel, total_steps: int) -> list[TrainerCallback]:
    """What a teacher does around each step."""
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
