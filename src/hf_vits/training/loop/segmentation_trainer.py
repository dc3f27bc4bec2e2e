"""The Trainer of models of semantic segmentation."""

from typing import Any

import torch
from transformers import EvalPrediction

from hf_vits.data.images.masked import IGNORED
from hf_vits.evaluation.segmenters import measure, summarize
from hf_vits.evaluation.sliding_window import segment

from .trainer import RecipeTrainer


class SegmentationTrainer(RecipeTrainer):
    """Trainer of a model of semantic segmentation, whose loss is its own.

    Evaluation divides images into windows and measures them at the size of their masks.
    """

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs["labels"]
        if is_empty := bool((labels == IGNORED).all()):
            # The mean over no pixels is NaN. All parameters still get a gradient, of zero.
            labels = torch.zeros_like(labels)
        outputs = model(pixel_values=inputs["pixel_values"], labels=labels)
        loss = outputs.loss * 0 if is_empty else outputs.loss
        return (loss, outputs) if return_outputs else loss

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Return no loss; the pixels of each class and the loss of each image as predictions; and their numbers."""
        inputs: Any = self._prepare_inputs(inputs)
        unwrapped: Any = self.accelerator.unwrap_model(model)
        with torch.no_grad(), self.accelerator.autocast():
            logits = [one for images in inputs["pixel_values"] for one in segment(unwrapped, images)]
            found = [measure(one, mask) for one, mask in zip(logits, inputs["masks"], strict=True)]
        index = inputs["index"]
        counts, losses = (torch.stack(parts).to(index.device) for parts in zip(*found, strict=True))
        return None, (counts, losses), index

    @staticmethod
    def metrics(prediction: EvalPrediction) -> dict[str, float]:
        """Return loss, mean_iou, pixel_accuracy and mean_accuracy."""
        counts, losses = prediction.predictions
        return summarize(counts, losses)[0]
