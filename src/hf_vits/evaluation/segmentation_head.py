"""Segmentation heads on frozen patch tokens, linear or a fully convolutional network (FCN).

MkuuWaUjinga/leopart, experiments/linear_probing (linear_finetune.py, fcn/fcn_head.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate
from tqdm import tqdm

from hf_vits.layers.segmentation_head import FCNHead

from .mean_iou import IGNORED

SIDE = 100  # pixels of the maps and masks that heads are trained and measured on


def load_head(tensors: Mapping[str, Tensor], dropout: float = 0.1) -> nn.Conv2d | FCNHead:
    """Return the head of an original's checkpoint, linear or FCN, in evaluation mode.

    Args:
        tensors: {the original's key, with or without `finetune_head.`: tensor}; other keys are left out.

    Raises:
        ValueError: there is no head.
    """
    tensors = {key: value for key, value in tensors.items() if not key.startswith("model.")}
    found = {key.removeprefix("finetune_head."): value for key, value in tensors.items()}
    if {"weight", "bias"} <= found.keys():
        linear = nn.Conv2d(found["weight"].shape[1], len(found["weight"]), 1)
        linear.load_state_dict({name: found[name] for name in ("weight", "bias")})
        return linear.eval()
    if "conv_seg.weight" not in found:
        raise ValueError(f"no segmentation head among the keys {', '.join(list(found)[:5]) or 'of an empty file'}")
    num_classes, channels = found["conv_seg.weight"].shape[:2]
    convs = sum(key.endswith(".conv.weight") and key.startswith("convs.") for key in found)
    concat = found.get("conv_cat.conv.weight")
    first = found["convs.0.conv.weight"] if convs else None
    in_channels = channels if first is None else first.shape[1]
    kernel_size = next((t.shape[-1] for t in (first, concat) if t is not None), 3)
    head = FCNHead(in_channels, num_classes, channels, convs, kernel_size, concat is not None, dropout)
    names = {"conv_seg.": "classifier.", "conv_cat.conv.": "concat.0."}
    renamed = {}
    for key, value in found.items():
        for theirs, ours in names.items():
            key = key.replace(theirs, ours)
        renamed[key.replace(".conv.", ".0.")] = value
    head.load_state_dict(renamed)
    return head.eval()


@dataclass(frozen=True)
class HeadSettings:
    """Training settings of a head: SGD with momentum 0.9 and weight decay 1e-4.

    Attributes:
        learning_rate: until `drop_at`, when it is divided by 10.
        epochs, batch_size: of the training.
        drop_at: number of epochs after which the learning rate drops.
    """

    learning_rate: float = 0.01
    epochs: int = 25
    batch_size: int = 60
    drop_at: int = 20


# experiments/linear_probing/configs/pascal and pascal/fcn of the original
SETTINGS = {"linear": HeadSettings(), "fcn": HeadSettings(epochs=30, batch_size=32)}


def train_head(
    maps: Tensor,
    masks: Tensor,
    num_classes: int,
    kind: Literal["linear", "fcn"] | nn.Module = "linear",
    settings: HeadSettings | None = None,
    side: int = SIDE,
    seed: int = 0,
) -> nn.Module:
    """Train a head on frozen token maps, with a progress bar, and return it in evaluation mode.

    Unlike in the original, images are not augmented: their features are computed once.

    Args:
        maps: (images, channels, rows, columns).
        masks: (images, height, width), classes or 255 where no loss is computed.
        kind: "linear", "fcn", or a head from maps (batch, channels, rows, columns) to logits.
        settings: by default those of the original for the kind, of "linear" for another head.
        side: rows and columns to which both are resized, maps bilinear and masks nearest.
        seed: of the initial weights and the order of images.
    """
    if isinstance(kind, str) and kind not in SETTINGS:
        raise ValueError(f"kind must be {' or '.join(SETTINGS)}, or a module, got {kind!r}")
    settings = settings or SETTINGS[kind if isinstance(kind, str) else "linear"]
    check_labels(masks, num_classes)
    wanted = resize_masks(masks, side)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(kind, nn.Module):
            head = kind
        else:
            head = (
                nn.Conv2d(maps.shape[1], num_classes, 1) if kind == "linear" else FCNHead(maps.shape[1], num_classes)
            )
        head = head.to(maps.device).train()
        optimizer = torch.optim.SGD(head.parameters(), lr=settings.learning_rate, momentum=0.9, weight_decay=1e-4)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, settings.drop_at)
        for _ in tqdm(range(settings.epochs), desc="Segmentation head", unit="epoch", leave=False, disable=None):
            for batch in torch.randperm(len(maps)).to(maps.device).split(settings.batch_size):
                if (wanted[batch] == IGNORED).all():
                    continue
                logits = head(interpolate(maps[batch], (side, side), mode="bilinear"))
                loss = cross_entropy(logits, wanted[batch], ignore_index=IGNORED)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            scheduler.step()
    return head.eval()


@torch.no_grad()
def predict(head: nn.Module, maps: Tensor, side: int = SIDE, batch_size: int = 16) -> Tensor:
    """Return the classes (images, side, side) that a head finds in token maps (images, channels, rows, columns)."""
    parts = [interpolate(part, (side, side), mode="bilinear") for part in maps.split(batch_size)]
    return torch.cat([head(part).argmax(dim=1) for part in parts])


def resize_masks(masks: Tensor, side: int) -> Tensor:
    """Return masks (images, side, side) of int64, resized by the nearest pixel."""
    return interpolate(masks[:, None].float(), (side, side))[:, 0].long()


def check_labels(masks: Tensor, num_classes: int) -> None:
    """Raise ValueError for a label that is neither a class nor 255."""
    unknown = (masks != IGNORED) & ((masks < 0) | (masks >= num_classes))
    if unknown.any():
        raise ValueError(
            f"masks have the labels 0 to {num_classes - 1}, or {IGNORED} where nothing is known, got "
            f"{int(masks[unknown][0])}"
        )
