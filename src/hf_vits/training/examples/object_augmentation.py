"""Augmentation that moves objects: mirroring, large-scale jitter and simple copy-paste, of samples of tensors.

A sample is {"pixel_values": (channels, height, width), "objects": {"boxes": (n, 4), "class_labels": (n,), "masks":
(n, height, width) or none}}. With masks, the box of an object that is cut is that of the mask that is left.
"""

from typing import Any

import torch
from torch.nn.functional import pad

from hf_vits.layers.boxes import are_filled, clip_boxes

Sample = dict[str, Any]


def flipped(sample: Sample) -> Sample:
    """Return an image with objects mirrored, left for right."""
    pixel_values, objects = sample["pixel_values"], sample["objects"]
    width = pixel_values.shape[-1]
    left, top, right, bottom = objects["boxes"].unbind(1)
    mirrored = {"boxes": torch.stack([width - right, top, width - left, bottom], dim=1)}
    if "masks" in objects:
        mirrored["masks"] = objects["masks"].flip(-1)
    return {"pixel_values": pixel_values.flip(-1), "objects": objects | mirrored}


def cut_out(sample: Sample, top: int, left: int, side: int, colour: torch.Tensor) -> Sample:
    """Return a square of an image with what is in it of its objects; beyond the image, right and below, is a colour.

    Args:
        top, left: first row and column of the square.
        side: rows and columns of the square.
        colour: (channels,).
    """
    pixels, objects = sample["pixel_values"][:, top : top + side, left : left + side], sample["objects"]
    height, width = pixels.shape[-2:]
    square = colour[:, None, None].repeat(1, side, side).to(pixels.dtype)
    square[:, :height, :width] = pixels
    moved = objects["boxes"] - objects["boxes"].new_tensor([left, top, left, top])
    moved = objects | {"boxes": clip_boxes(moved, torch.tensor([side, side]))}
    if "masks" in objects:
        masks = objects["masks"][:, top : top + side, left : left + side]
        moved |= fit_boxes(objects, moved["boxes"], pad(masks, (0, side - width, 0, side - height)))
    return {"pixel_values": square, "objects": chosen(moved, are_filled(moved["boxes"]))}


def fit_boxes(objects: dict[str, torch.Tensor], boxes: torch.Tensor, masks: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return masks (n, height, width) that lost pixels, and the boxes: of these masks, or as given where none is lost.

    Objects whose mask is empty have a box without area.

    Args:
        objects: the objects with their masks before.
        boxes: (n, 4), in the pixels of the masks.
    """
    lost = masks.flatten(1).sum(1) < objects["masks"].flatten(1).sum(1)
    return {"masks": masks, "boxes": torch.where(lost[:, None], boxes_of(masks), boxes)}


def boxes_of(masks: torch.Tensor) -> torch.Tensor:
    """Return the boxes (n, 4) of masks (n, height, width), 0 of an empty one."""
    if not masks.numel():
        return torch.zeros(len(masks), 4)
    (left, right), (top, bottom) = (first_and_last(masks.any(dim=axis)) for axis in (1, 2))
    return torch.stack([left, top, right, bottom], dim=1).float() * masks.flatten(1).any(dim=1)[:, None]


def first_and_last(filled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the first place (n,) that is true of (n, places), and the one after the last."""
    return filled.int().argmax(dim=1), filled.shape[1] - filled.flip(1).int().argmax(dim=1)


def chosen(objects: dict[str, torch.Tensor], index: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return some of the objects, by booleans (n,)."""
    return {name: value[index] for name, value in objects.items()}


def pasted(sample: Sample, other: Sample, index: torch.Tensor) -> Sample:
    """Return an image with objects of another one of the same size on top (simple copy-paste, arXiv 2012.07177).

    What is covered is no longer in the masks of the objects below; objects that are covered wholly are left out.

    Args:
        index: booleans (n,), which objects of `other`; without a mask none is pasted.
    """
    source = chosen(other["objects"], index & other["objects"]["masks"].flatten(1).any(1))
    cover = source["masks"].any(dim=0)
    objects = sample["objects"]
    below = objects | fit_boxes(objects, objects["boxes"], objects["masks"] & ~cover)
    below = chosen(below, below["masks"].flatten(1).any(1))
    return {
        "pixel_values": torch.where(cover, other["pixel_values"], sample["pixel_values"]),
        "objects": {name: torch.cat([below[name], source[name]]) for name in below},
    }
