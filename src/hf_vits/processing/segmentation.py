"""The image processor of models of semantic segmentation: images with masks, and masks of the images' own sizes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import interpolate
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import ImageInput, PILImageResampling

from .image import VitsImageProcessor


class VitsSegmentationProcessor(VitsImageProcessor):
    """Prepares images for semantic segmentation, without cropping them, and returns masks of the images' sizes.

    The shorter side is resized to size["shortest_edge"], unless the longer one would be above size["longest_edge"].
    The other fields are those of `VitsImageProcessor`.
    """

    size = {"shortest_edge": 512, "longest_edge": 2048}
    resample = PILImageResampling.BILINEAR
    do_center_crop = False

    def preprocess(self, images: ImageInput, segmentation_maps: Any = None, **kwargs: Any) -> BatchFeature:
        """Prepare images and, with `segmentation_maps`, their masks.

        Args:
            segmentation_maps: the mask of each image, or one mask of one image: an array, tensor or PIL image (height,
                width) of class numbers, 255 where nothing is known.
            kwargs: override the processor's fields.

        Returns:
            pixel_values, and with masks `labels` (batch, height, width) of int64, resized to the nearest pixel.

        Raises:
            ValueError: a mask has another size than its image, or there is not one for each image.
        """
        if segmentation_maps is None:
            return super().preprocess(images, **kwargs)
        given: list[Any] = list(images) if isinstance(images, list | tuple) else [images]
        single = isinstance(segmentation_maps, Image.Image) or np.ndim(segmentation_maps) == 2
        masks = [segmentation_maps] if single else list(segmentation_maps)
        opened = self.fetch_images(given)
        sizes = [tuple(self.process_image(image, do_convert_rgb=True).shape[-2:]) for image in opened]
        masks = [torch.from_numpy(np.array(mask)).long() for mask in masks]
        if [tuple(mask.shape) for mask in masks] != sizes:
            raise ValueError(
                f"segmentation_maps must be masks (height, width) of the images' sizes {sizes}, got "
                f"{[tuple(mask.shape) for mask in masks]}"
            )
        batch = super().preprocess(opened, **{"return_tensors": "pt"} | kwargs)
        size = tuple(batch["pixel_values"].shape[-2:])
        labels = [interpolate(mask[None, None].float(), size, mode="nearest-exact")[0, 0].long() for mask in masks]
        batch["labels"] = torch.stack(labels)
        return batch

    def post_process_semantic_segmentation(
        self, outputs: Any, target_sizes: Sequence[tuple[int, int]] | torch.Tensor | None = None
    ) -> list[torch.Tensor]:
        """Return the class of each pixel (height, width) of each image.

        Args:
            outputs: of the model, with `logits` (batch, classes, height, width).
            target_sizes: (height, width) of each image, to which the logits are resized; by default their own.

        Raises:
            ValueError: there is not one target size for each image.
        """
        logits = outputs.logits
        if target_sizes is None:
            return list(logits.argmax(dim=1))
        if len(target_sizes) != len(logits):
            raise ValueError(f"target_sizes must be {len(logits)}, one for each image, got {len(target_sizes)}")
        sizes = [tuple(map(int, size)) for size in target_sizes]
        return [resized(one[None], size)[0].argmax(dim=0) for one, size in zip(logits, sizes, strict=True)]


def resized(logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Return logits (batch, classes, height, width) at another size (height, width), bilinear, in float32."""
    logits = logits.float()
    return logits if tuple(logits.shape[-2:]) == tuple(size) else interpolate(logits, size, mode="bilinear")


__all__ = ["VitsSegmentationProcessor"]
