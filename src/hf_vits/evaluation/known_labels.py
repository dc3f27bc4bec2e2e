"""transformers' pipeline of image classification for models that take known labels, such as C-Tran."""

from collections.abc import Mapping
from typing import Any

import torch
from transformers import ImageClassificationPipeline

from hf_vits.data.known_labels import known_states


class KnownLabelsPipeline(ImageClassificationPipeline):
    """Pipeline whose argument `known_labels` names labels of the images that are known already.

    Example: `pipeline("image-classification", model=folder, pipeline_class=KnownLabelsPipeline)(image,
    known_labels={"person": True, "dog": False})`.

    Raises ValueError for a name that is no label, or a model that takes no known labels.
    """

    def _sanitize_parameters(self, known_labels: Mapping[str, bool] | None = None, **kwargs: Any):
        before, forward, after = super()._sanitize_parameters(**kwargs)
        if known_labels is not None:
            forward["known_labels"] = known_states(self.model, known_labels)
        return before, forward, after

    def _forward(self, model_inputs: Mapping[str, torch.Tensor], known_labels: torch.Tensor | None = None):
        if known_labels is None:
            return super()._forward(model_inputs)
        pixel_values = model_inputs["pixel_values"]
        states = known_labels.to(pixel_values.device).expand(len(pixel_values), -1)
        return self.model(**model_inputs, known_labels=states)


__all__ = ["KnownLabelsPipeline"]
