"""The Trainer of detectors."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from transformers import EvalPrediction

from hf_vits.evaluation.detection import average_precisions
from hf_vits.layers.regions import paste_masks
from hf_vits.models.detection.modeling_detection import DetectionOutput
from hf_vits.processing.detection import read_objects

from ..building.fitting import class_names as names_of
from ..examples.objects import EvaluationObjects
from .trainer import RecipeTrainer


class DetectionTrainer(RecipeTrainer):
    """Trainer of a detector, whose loss is its own. A batch is the model's keyword arguments.

    Evaluation measures COCO's average precision of boxes and, where the model has them, of masks.
    """

    evaluated: EvaluationObjects

    def get_eval_dataloader(self, eval_dataset: Dataset | None = None) -> DataLoader:
        dataset: Any = self.eval_dataset if eval_dataset is None else eval_dataset
        self.evaluated = dataset
        return super().get_eval_dataloader(eval_dataset)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**{name: value for name, value in inputs.items() if name != "index"})
        self.keep_for_log({name: value.detach() for name, value in outputs.loss_dict.items()})
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Return no loss; detections and the loss as predictions; and the numbers of the images."""
        inputs = self._prepare_inputs(inputs)
        index = inputs.pop("index")
        with torch.no_grad():
            outputs = model(**inputs)
        found = [outputs.scores.float(), outputs.pred_labels, outputs.pred_boxes.float(), outputs.image_sizes]
        found.append(outputs.loss.float().expand(len(index)).contiguous())
        if outputs.pred_masks is not None:
            found.append(outputs.pred_masks.float())
        return None, tuple(found), index

    def metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """Return loss and scores of the images of the last evaluated data set."""
        model: Any = self.model
        scores = measure(self.evaluated, self.processor, prediction, names_of(model.config.id2label))[0]
        return {name: value for name, value in scores.items() if value == value}  # without NaN


def measure(
    dataset: EvaluationObjects, processor, prediction: Any, class_names: Sequence[str]
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Return loss and scores by name, and {kind: {class: average precision}}, of the predictions of a trainer."""
    scores, labels, boxes, sizes, losses, *masks = (torch.from_numpy(part) for part in prediction.predictions)
    references, found = [], []
    for row, index in enumerate(prediction.label_ids.tolist()):
        image = dataset.split.inputs[index]
        size = (image.height, image.width)
        references.append(read_objects(dataset.split.labels[index], size))
        part = slice(row, row + 1)
        outputs = DetectionOutput(
            scores=scores[part],
            pred_labels=labels[part],
            pred_boxes=boxes[part],
            image_sizes=sizes[part],
            pred_masks=masks[0][part] if masks else None,
        )
        (detected,) = processor.detections(outputs, 0.0, [size])
        if masks:
            detected["masks"] = paste_masks(detected["masks"], detected["boxes"], size)
        found.append(detected)
    results, classes = {"loss": float(losses.mean())}, {}
    for kind in ("box", "mask") if masks else ("box",):
        measured, classes[kind] = average_precisions(references, found, class_names, kind)
        results |= measured
    return results, classes
