"""Segmentation of images larger than those a model was trained on, by windows that overlap."""

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel
from transformers.modeling_outputs import SemanticSegmenterOutput

from hf_vits.configuration import pair
from hf_vits.data.images import backbone_config

_WINDOWS = 16  # that go through the model at once


def window_of(model: PreTrainedModel) -> tuple[int, int]:
    """Return the (height, width) of the images that a model was made for."""
    size: Any = backbone_config(model).image_size
    return pair(size)


def starts(length: int, window: int) -> list[int]:
    """Return where windows of a side begin: steps of two thirds of a window, the last one at the end."""
    step = max(window * 2 // 3, 1)
    count = max(-(-(length - window) // step), 0) + 1
    return [min(number * step, max(length - window, 0)) for number in range(count)]


def segment(model: Any, pixel_values: Tensor, window: tuple[int, int] | None = None) -> Tensor:
    """Return the logits (batch, classes, height, width) of images, the mean over windows that overlap by a third.

    Smaller images are padded with zeros, right and at the bottom, so that the model sees whole windows only. The
    windows are those of mmsegmentation's "slide" (mmseg/models/segmentors/encoder_decoder.py).

    Example: `segment(model, processor(image, return_tensors="pt")["pixel_values"]).argmax(1)`.

    Args:
        model: called with pixel_values, returns an output with `logits` of their size.
        pixel_values: (batch, channels, height, width).
        window: (height, width); by default of the images that the model was made for.
    """
    window = window or window_of(model)
    height, width = pixel_values.shape[-2:]
    whole = pad(pixel_values, (0, max(window[1] - width, 0), 0, max(window[0] - height, 0)))
    sizes = tuple(whole.shape[-2:])
    places = [
        (slice(top, top + window[0]), slice(left, left + window[1]))
        for top in starts(sizes[0], window[0])
        for left in starts(sizes[1], window[1])
    ]
    total, count = None, pixel_values.new_zeros(sizes, dtype=torch.float32)
    step = max(_WINDOWS // len(pixel_values), 1)
    for first in range(0, len(places), step):
        part = places[first : first + step]
        logits = model(pixel_values=torch.cat([whole[..., rows, columns] for rows, columns in part])).logits.float()
        if total is None:
            total = logits.new_zeros(len(pixel_values), logits.shape[1], *sizes)
        for (rows, columns), found in zip(part, logits.split(len(pixel_values)), strict=True):
            total[..., rows, columns] += found
            count[rows, columns] += 1
    assert total is not None
    return (total / count)[..., :height, :width]


@torch.no_grad()
def classes_of(model: PreTrainedModel, processor: Any, image: Image.Image) -> np.ndarray:
    """Return the class of each pixel of an image, (height, width) of int64.

    Args:
        processor: a `VitsSegmentationProcessor`.
    """
    pixel_values = processor(images=image, return_tensors="pt")["pixel_values"].to(model.device, model.dtype)
    outputs = SemanticSegmenterOutput(logits=segment(model, pixel_values))
    (classes,) = processor.post_process_semantic_segmentation(outputs, [(image.height, image.width)])
    return classes.cpu().numpy()
