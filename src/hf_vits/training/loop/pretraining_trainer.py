"""The Trainer of self-supervised pretraining, evaluated by k-NN classification of the features."""

import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from hf_vits.evaluation import neighbours
from hf_vits.evaluation.features import extract, plain_encoder
from hf_vits.figures.features import draw_method
from hf_vits.objectives.centering import Center, is_distributed

from .batch_statistics import GlobalBatchStatistics
from .trainer import RecipeTrainer

PICTURES = "pictures"

# Function from batches of labelled images to features (images, channels) and labels (images,).
Describe = Callable[[DataLoader], tuple[torch.Tensor, torch.Tensor]]


class PretrainingTrainer(RecipeTrainer):
    """Trainer of a model whose forward computes the loss of a batch of images or of views of them.

    Evaluation classifies validation images by their nearest neighbours among training images, if the recipe has a
    section `neighbours`, and draws the method's picture of some of them.

    Attributes:
        bank: labelled training images among which neighbours are searched; None: k-NN is off.
        pictures: directory of the pictures, named by the number of steps done.
        shown: images to draw, (images, channels, height, width).
    """

    shards = True
    copies = None
    bank: Dataset | None = None
    pictures: Path
    shown: torch.Tensor

    def train(self, *args, **kwargs):
        for module in self.model.modules():
            if isinstance(module, Center):
                module.parts = self.args.gradient_accumulation_steps
        return super().train(*args, **kwargs)

    def training_step(self, *args, **kwargs) -> torch.Tensor:
        """Take a step as `RecipeTrainer` does, with batch norm statistics over all processes as in the originals."""
        with GlobalBatchStatistics() if is_distributed() else contextlib.nullcontext():
            return super().training_step(*args, **kwargs)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs)
        self.keep_for_log({name: value.detach() for name, value in outputs.items() if name.endswith("_loss")})
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    def evaluate(self, eval_dataset: Dataset | None = None, ignore_keys=None, metric_key_prefix: str = "eval"):
        """Measure k-NN accuracy on a data set and draw the picture; on the main process only."""
        metrics, model = {}, self.whole_model()
        if self.is_world_process_zero():
            dataset = self.eval_dataset if eval_dataset is None else eval_dataset
            judged = self.judge(partial(extract, plain_encoder(model)), dataset)
            metrics = {f"{metric_key_prefix}_{name}": value for name, value in judged.items()}
            picture = self.pictures / f"{self.state.global_step:06d}.png"
            draw_method(model, self.shown, self.processor, picture)
        self.accelerator.wait_for_everyone()
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def judge(self, describe: Describe, dataset: Dataset) -> dict[str, float]:
        """Return knn_accuracy and knn_top5_accuracy of the features that `describe` computes; {} without a bank."""
        if self.bank is None:
            return {}
        recipe: Any = self.recipe.neighbours
        known, asked = (describe(self._loader(images)) for images in (self.bank, dataset))
        accuracy = neighbours.accuracy(*known, *asked, k=recipe.number, temperature=recipe.temperature)
        return {"knn_accuracy": accuracy["top1"], "knn_top5_accuracy": accuracy["top5"]}

    def _loader(self, dataset: Dataset) -> DataLoader:
        return DataLoader(dataset, self.args.eval_batch_size, num_workers=self.args.dataloader_num_workers)


def pixel_features(loader: DataLoader) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what `extract` returns, with the pixels of an image as its features."""
    batches = [(batch["pixel_values"].flatten(1), batch["labels"]) for batch in loader]
    features, labels = zip(*batches, strict=True)
    return torch.cat(features), torch.cat(labels)
