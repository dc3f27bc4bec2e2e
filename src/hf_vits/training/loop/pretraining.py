"""The trainer of models that learn without labels, judged meanwhile by the nearest neighbours of their features."""

import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Subset

from hf_vits.evaluation import neighbours
from hf_vits.evaluation.features import extract, plain_encoder
from hf_vits.figures.pretraining import draw_what_it_sees
from hf_vits.objectives.centering import Center, is_distributed

from .batch_statistics import GlobalBatchStatistics
from .trainer import RecipeTrainer

PICTURES = "pictures"

# From batches of labelled images to features (images, channels) and labels (images,).
Describe = Callable[[DataLoader], tuple[torch.Tensor, torch.Tensor]]


class PretrainingTrainer(RecipeTrainer):
    """Trainer of a model whose forward computes the loss of a batch of images, or of views of them.

    Evaluation measures how the neighbours of validation images, among training images, tell their class, where the
    recipe asks for it, and draws what the model sees in some of them.

    Attributes:
        bank: the training images that are searched for neighbours, with labels; None: none are.
        pictures: directory of the drawings, by the number of steps done.
        shown: (images, channels, height, width) to draw.
    """

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
        """As in `RecipeTrainer`, with batch norms over all processes, as all the originals have them."""
        with GlobalBatchStatistics() if is_distributed() else contextlib.nullcontext():
            return super().training_step(*args, **kwargs)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs)
        self.keep_for_log({name: value.detach() for name, value in outputs.items() if name.endswith("_loss")})
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    def evaluate(self, eval_dataset: Dataset | None = None, ignore_keys=None, metric_key_prefix: str = "eval"):
        """Accuracy of neighbours on a data set; on the process that writes."""
        metrics = {}
        if self.is_world_process_zero():
            dataset = self.eval_dataset if eval_dataset is None else eval_dataset
            judged = self.judge(partial(extract, plain_encoder(self.model)), dataset)
            metrics = {f"{metric_key_prefix}_{name}": value for name, value in judged.items()}
            draw_what_it_sees(
                self.model, self.shown, self.processor, self.pictures / f"{self.state.global_step:06d}.png"
            )
        self.accelerator.wait_for_everyone()
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def judge(self, describe: Describe, dataset: Dataset) -> dict[str, float]:
        """knn_accuracy and knn_top5_accuracy of what `describe` makes of the images; nothing without a bank."""
        if self.bank is None:
            return {}
        recipe: Any = self.recipe.neighbours
        known, asked = (describe(self._loader(images)) for images in (self.bank, dataset))
        accuracy = neighbours.accuracy(*known, *asked, k=recipe.number, temperature=recipe.temperature)
        return {"knn_accuracy": accuracy["top1"], "knn_top5_accuracy": accuracy["top5"]}

    def _loader(self, dataset: Dataset) -> DataLoader:
        return DataLoader(dataset, self.args.eval_batch_size, num_workers=self.args.dataloader_num_workers)


def pixels(loader: DataLoader) -> tuple[torch.Tensor, torch.Tensor]:
    """What `extract` gives, where the features of an image are its pixels."""
    batches = [(batch["pixel_values"].flatten(1), batch["labels"]) for batch in loader]
    features, labels = zip(*batches, strict=True)
    return torch.cat(features), torch.cat(labels)


def evenly(dataset: Dataset, number: int | None) -> Dataset:
    """So many examples, spread evenly; None: all."""
    if number is None or number >= len(dataset):
        return dataset
    places = torch.linspace(0, len(dataset) - 1, number).round().long()
    return Subset(dataset, places.tolist())
