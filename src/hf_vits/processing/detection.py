"""The image processor of detectors: images of different sizes in one batch, with their objects."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import pad
from torchvision.transforms.v2 import functional as tvF
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import ImageInput, PILImageResampling, SizeDict

from ..layers.boxes import are_filled, clip_boxes
from ..layers.regions import paste_masks
from .image import VitsImageProcessor, VitsImageProcessorKwargs, _resized_size


class VitsDetectionProcessorKwargs(VitsImageProcessorKwargs, total=False):
    """Keyword arguments of `VitsImageProcessor`, and one more, see `VitsDetectionProcessor`."""

    size_divisor: int | None


class VitsDetectionProcessor(VitsImageProcessor):
    """Prepares images and objects for detectors as detectron2 does.

    The shorter side is resized to size["shortest_edge"], unless the longer one would be above size["longest_edge"].
    Images are then padded with zeros, right and at the bottom, to the largest of the batch, and further to a multiple
    of `size_divisor`. The other fields are those of `VitsImageProcessor`.

    Returns `pixel_values`, `pixel_mask` (batch, height, width), 1 inside the images, and, of images with annotations,
    `labels`: for each image `boxes` (n, 4), corners (x0, y0, x1, y1) in pixels of `pixel_values`, `class_labels`,
    `masks` (n, height, width) where each object has a mask, `iscrowd`, `area` in the original's pixels, `image_id` and
    `orig_size` (height, width). transformers' DETR has centres and sides as fractions of the image instead.
    """

    valid_kwargs = VitsDetectionProcessorKwargs
    model_input_names = ["pixel_values", "pixel_mask"]

    size = {"shortest_edge": 800, "longest_edge": 1333}
    resample = PILImageResampling.BILINEAR
    do_center_crop = False
    do_pad = True
    size_divisor = 32

    def preprocess(
        self, images: ImageInput, annotations: Sequence[Mapping] | Mapping | None = None, **kwargs: Any
    ) -> BatchFeature:
        """Prepare images and, with `annotations`, their objects.

        Args:
            annotations: for each image {"image_id": number, "annotations": objects} as in COCO's files: `bbox` (x, y,
                width, height) in pixels, `category_id`, the index of the class, and optionally `iscrowd`, `area`, and
                `segmentation`: polygons (which need pycocotools), a run-length encoding, or an array (height, width).
            kwargs: override the processor's fields.
        """
        if annotations is None:
            return super().preprocess(images, **kwargs)
        if isinstance(annotations, Mapping):
            annotations = [annotations]
        given: Any = [images] if not isinstance(images, list | tuple) else list(images)
        opened = [self.process_image(image, do_convert_rgb=True) for image in self.fetch_images(given)]
        if len(opened) != len(annotations):
            raise ValueError(f"annotations must be {len(opened)}, one for each image, got {len(annotations)}")
        wanted = kwargs.pop("return_tensors", "pt")
        if wanted != "pt":
            raise ValueError(f'annotations become torch tensors, return_tensors="pt", got {wanted!r}')
        batch = super().preprocess(given, return_tensors="pt", **kwargs)
        padded = tuple(batch["pixel_values"].shape[-2:])
        sizes = torch.stack([batch["pixel_mask"][:, :, 0].sum(1), batch["pixel_mask"][:, 0].sum(1)], dim=1)
        labels = []
        for index, (image, part) in enumerate(zip(opened, annotations, strict=True)):
            try:
                objects = read_objects(part, tuple(image.shape[-2:]))
            except (TypeError, ValueError, KeyError) as error:
                error.add_note(f"(annotations of image {index} of the batch)")
                raise
            labels.append(fit_objects(objects, sizes[index].tolist(), padded))
        batch["labels"] = labels
        return batch

    def _preprocess(
        self,
        images: list[torch.Tensor],
        *,
        do_pad: bool | None,
        pad_size: SizeDict | None,
        return_tensors: str | None,
        size_divisor: int | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        batch = super()._preprocess(images, do_pad=False, pad_size=None, return_tensors=None, **kwargs)
        processed = list(batch["pixel_values"])
        if not do_pad:
            return BatchFeature(data={"pixel_values": processed}, tensor_type=return_tensors)
        step = size_divisor or 1
        target = (pad_size.height, pad_size.width) if pad_size else largest(processed, step)
        pixels, masks = [], []
        for image in processed:
            height, width = image.shape[-2:]
            if height > target[0] or width > target[1]:
                raise ValueError(f"pad_size={target} is smaller than an image of {(height, width)} pixels")
            padding = (0, target[1] - width, 0, target[0] - height)
            pixels.append(pad(image, padding))
            masks.append(pad(torch.ones(height, width, dtype=torch.int64, device=image.device), padding))
        return BatchFeature(data={"pixel_values": pixels, "pixel_mask": masks}, tensor_type=return_tensors)

    def resized_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the (height, width) to which an image is resized."""
        return _resized_size(height, width, self.size, self.convention)

    def post_process_object_detection(
        self, outputs: Any, threshold: float = 0.5, target_sizes: Any = None
    ) -> list[dict[str, torch.Tensor]]:
        """Return the detections of each image with a score above `threshold`.

        Args:
            outputs: of a detector of hf_vits.
            target_sizes: (height, width) of each original image, a tensor or a list; None for the size that the model
                has seen.

        Returns:
            For each image `scores` (n,), `labels` (n,) and `boxes` (n, 4), corners (x0, y0, x1, y1) in pixels of the
            original; boxes without area are left out.
        """
        return [
            {name: found[name] for name in ("scores", "labels", "boxes")}
            for found in self._detections(outputs, threshold, target_sizes)
        ]

    def post_process_instance_segmentation(
        self,
        outputs: Any,
        threshold: float = 0.5,
        mask_threshold: float = 0.5,
        overlap_mask_area_threshold: float = 0.8,
        target_sizes: Any = None,
        return_coco_annotation: bool | None = False,
        return_binary_maps: bool | None = False,
    ) -> list[dict[str, Any]]:
        """Return the masks of each image's detections with a score above `threshold`.

        Args:
            outputs: of a detector of hf_vits for instance segmentation.
            mask_threshold: probability from which a pixel belongs to the object.
            overlap_mask_area_threshold: in a map of segments, objects of which a smaller fraction is visible are left
                out; objects with a higher score cover others.
            target_sizes: (height, width) of each original image; None for the size that the model has seen.
            return_coco_annotation: `segmentation` is a list of run-length encodings, the counts of COCO's
                uncompressed format, instead of a map. Masks may overlap.
            return_binary_maps: `segmentation` is a tensor (n, height, width) of 0 and 1. Masks may overlap.

        Returns:
            For each image `segmentation`, by default a map (height, width) of the number of the segment, -1 for none,
            and `segments_info`, of each segment its `id`, `label_id`, `score` and `was_fused`.
        """
        if return_coco_annotation and return_binary_maps:
            raise ValueError("return_coco_annotation and return_binary_maps cannot both be True")
        if getattr(outputs, "pred_masks", None) is None:
            raise ValueError("outputs have no pred_masks: use a model for instance segmentation")
        results = []
        for found in self._detections(outputs, threshold, target_sizes):
            masks = paste_masks(found["masks"], found["boxes"], found["size"], mask_threshold)
            if return_coco_annotation or return_binary_maps:
                numbers = list(range(len(masks)))
                segmentation = (
                    [run_lengths(mask) for mask in masks] if return_coco_annotation else masks.to(torch.uint8)
                )
            else:
                segmentation, numbers = segment_map(masks, overlap_mask_area_threshold)
            info = [
                {
                    "id": segment,
                    "label_id": int(found["labels"][number]),
                    "was_fused": False,
                    "score": round(float(found["scores"][number]), 6),
                }
                for segment, number in enumerate(numbers)
            ]
            results.append({"segmentation": segmentation, "segments_info": info})
        return results

    def _detections(self, outputs: Any, threshold: float, target_sizes: Any) -> list[dict[str, Any]]:
        """Return the detections of each image, with boxes in the original's pixels, its masks and its size."""
        scores, seen = outputs.scores, outputs.image_sizes.tolist()
        sizes = seen if target_sizes is None else [[int(side) for side in size] for size in target_sizes]
        if len(sizes) != len(scores):
            raise ValueError(f"target_sizes must be {len(scores)}, one for each image, got {len(sizes)}")
        found = []
        for index, ((height, width), (old_height, old_width)) in enumerate(zip(sizes, seen, strict=True)):
            boxes = outputs.pred_boxes[index].float()
            factors = boxes.new_tensor([width / old_width, height / old_height] * 2)
            boxes = clip_boxes(boxes * factors, torch.tensor([height, width], device=boxes.device))
            # A threshold of 0 keeps every detection, but not the padding, whose label is -1.
            kept = (scores[index] > threshold) & are_filled(boxes) & (outputs.pred_labels[index] >= 0)
            masks = getattr(outputs, "pred_masks", None)
            found.append(
                {
                    "scores": scores[index][kept],
                    "labels": outputs.pred_labels[index][kept],
                    "boxes": boxes[kept],
                    "masks": None if masks is None else masks[index][kept],
                    "size": (height, width),
                }
            )
        return found


def largest(images: list[torch.Tensor], step: int) -> tuple[int, int]:
    """Return the largest height and width of images, each rounded up to a multiple of `step`."""
    height, width = (max(image.shape[axis] for image in images) for axis in (-2, -1))
    return height + -height % step, width + -width % step


def segment_map(masks: torch.Tensor, smallest_fraction: float) -> tuple[torch.Tensor, list[int]]:
    """Return a map (height, width) of segments, -1 for none, and the number of the mask of each.

    Args:
        masks: (n, height, width), booleans, by falling score: earlier ones cover later ones.
        smallest_fraction: masks of which less is visible are left out.
    """
    segments, numbers = masks.new_full(masks.shape[1:], -1, dtype=torch.int32), []
    for number, mask in enumerate(masks):
        visible = mask & (segments < 0)
        area = int(mask.sum())
        if area and int(visible.sum()) >= smallest_fraction * area:
            segments[visible] = len(numbers)
            numbers.append(number)
    return segments, numbers


def run_lengths(mask: torch.Tensor) -> list[int]:
    """Return the lengths of runs of 0 and 1 of a mask (height, width), column by column, beginning with 0."""
    values = np.asarray(mask.cpu(), dtype=np.int8).T.ravel()
    ends = np.flatnonzero(np.diff(np.concatenate([[0], values, [1 - values[-1]]])))
    return np.diff(np.concatenate([[0], ends])).tolist()


def read_objects(annotation: Mapping, size: tuple[int, int]) -> dict[str, torch.Tensor]:
    """Return the objects of an image of `size` (height, width) as tensors, without those that have no area in it.

    Raises:
        TypeError, ValueError: an annotation lacks a box or class, or has odd values.
    """
    if not isinstance(annotation, Mapping) or "annotations" not in annotation:
        raise TypeError(f'expected {{"image_id": number, "annotations": [objects]}}, got {annotation!r:.120}')
    objects = list(annotation["annotations"])
    for item in objects:
        if missing := [name for name in ("bbox", "category_id") if name not in item]:
            raise ValueError(f"an object needs bbox and category_id, has no {missing[0]}: {item!r:.120}")
        if len(item["bbox"]) != 4 or not all(np.isfinite(item["bbox"])):
            raise ValueError(f"bbox must be four finite numbers (x, y, width, height), got {item['bbox']!r}")
    boxes = torch.tensor([list(item["bbox"]) for item in objects], dtype=torch.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    boxes = clip_boxes(boxes, torch.tensor(size))
    kept = are_filled(boxes)
    objects = [item for item, keep in zip(objects, kept.tolist(), strict=True) if keep]
    areas = [item.get("area", item["bbox"][2] * item["bbox"][3]) for item in objects]
    read = {
        "boxes": boxes[kept],
        "class_labels": torch.tensor([int(item["category_id"]) for item in objects], dtype=torch.int64),
        "iscrowd": torch.tensor([int(item.get("iscrowd", 0)) for item in objects], dtype=torch.int64),
        "area": torch.tensor(areas, dtype=torch.float32),
        "image_id": torch.tensor([int(annotation.get("image_id", 0))]),
        "orig_size": torch.tensor(size),
    }
    if all(item.get("segmentation") is not None for item in objects):
        masks = [read_mask(item["segmentation"], size) for item in objects]
        read["masks"] = torch.stack(masks) if masks else torch.zeros(0, *size, dtype=torch.bool)
    return read


def read_mask(segmentation: Any, size: tuple[int, int]) -> torch.Tensor:
    """Return a mask of booleans (height, width) from polygons, a run-length encoding or an array.

    Raises:
        ValueError: it is none of these, or damaged, or of another size.
    """
    if isinstance(segmentation, np.ndarray | torch.Tensor):
        mask = torch.as_tensor(segmentation).bool()
    else:
        try:
            runs = runs_of_polygons(segmentation, size) if isinstance(segmentation, list) else runs_of(segmentation)
        except ImportError as error:
            raise ImportError("polygons need pycocotools: pip install pycocotools") from error
        except Exception as error:  # of odd values, any type
            raise ValueError(
                f"segmentation must be polygons or a run-length encoding, got {segmentation!r:.80}: {error}"
            ) from error
        recorded = list(size if isinstance(segmentation, list) else segmentation["size"])
        if recorded != list(size) or min(runs, default=0) < 0 or sum(runs) != size[0] * size[1]:
            raise ValueError(
                f"a run-length encoding must have the {size[0] * size[1]} pixels of an image of size {list(size)}, "
                f"got {sum(runs)} pixels and size {recorded}"
            )
        values = np.repeat(np.arange(len(runs)) % 2, runs).reshape(size[1], size[0]).T
        mask = torch.from_numpy(values.astype(bool))
    if tuple(mask.shape) != tuple(size):
        raise ValueError(f"a mask must have the size of the image, {tuple(size)}, got {tuple(mask.shape)}")
    return mask


def runs_of_polygons(polygons: list, size: tuple[int, int]) -> list[int]:
    """Return the lengths of the runs of the pixels in any of some polygons, as pycocotools draws them."""
    from pycocotools import mask as coco

    return runs_of(coco.merge(coco.frPyObjects(polygons, *size)))


def runs_of(encoded: Mapping) -> list[int]:
    """Return the lengths of the runs of 0 and 1, column by column, of COCO's run-length encoding.

    The lengths are listed, or compressed to text: five bits to a character from "0" on, and from the third on the
    difference to the length before the last (cocoapi, common/maskApi.c, rleFrString).
    """
    counts, runs, place = encoded["counts"], [], 0
    if isinstance(counts, list):
        return [int(count) for count in counts]
    text = counts.encode() if isinstance(counts, str) else counts
    while place < len(text):
        value, shift, more = 0, 0, True
        while more:
            part = text[place] - 48
            if not 0 <= part < 64:
                raise ValueError(f"character {place} is {text[place : place + 1]!r}")
            value |= (part & 31) << shift
            more, place, shift = bool(part & 32), place + 1, shift + 5
        if part & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    return runs


def fit_objects(objects: dict[str, torch.Tensor], size: list[int], padded: tuple[int, int]) -> dict[str, torch.Tensor]:
    """Return objects in the pixels of their image resized to `size` and padded to `padded`, each (height, width)."""
    height, width = objects["orig_size"].tolist()
    factors = torch.tensor([size[1] / width, size[0] / height] * 2)
    fitted = objects | {"boxes": objects["boxes"] * factors}
    if "masks" in objects:
        masks = objects["masks"]
        if len(masks) and list(masks.shape[1:]) != list(size):
            masks = tvF.resize(masks.to(torch.uint8), list(size), tvF.InterpolationMode.NEAREST).bool()
        elif not len(masks):
            masks = masks.new_zeros(0, *size)
        fitted["masks"] = pad(masks, (0, padded[1] - size[1], 0, padded[0] - size[0]))
    return fitted


__all__ = ["VitsDetectionProcessor"]
