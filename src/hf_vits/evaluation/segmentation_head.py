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

from .mean_iou import IGNORED

SIDE = 100  # pixels of the maps and masks that heads are trained and measured on


class ConvRelu(nn.Sequential):
    """Convolution that keeps the size, and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int):
        convolution = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(convolution.bias)
        super().__init__(convolution, nn.ReLU())


class FCNHead(nn.Module):
    """Convolutions with ReLU, one over their output beside the input, dropout, and a classifier of every place.

    Args:
        in_channels: of the tokens.
        num_classes: number of classes.
        channels: of the convolutions.
        num_convs: number of convolutions before the last; without any, `in_channels` must be `channels`.
        kernel_size: side of the kernels.
        concat_input: whether there is a convolution over input and output.
        dropout: rate at which whole channels are dropped in training.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        channels: int = 512,
        num_convs: int = 2,
        kernel_size: int = 3,
        concat_input: bool = True,
        dropout: float = 0.1,
    ):
        super().__init__()
        if num_convs < 0 or (num_convs == 0 and in_channels != channels):
            raise ValueError(f"a head of {num_convs} convolutions cannot turn {in_channels} channels into {channels}")
        widths = [in_channels, *[channels] * num_convs]
        self.convs = nn.Sequential(*[ConvRelu(before, channels, kernel_size) for before in widths[:-1]])
        self.concat = ConvRelu(in_channels + channels, channels, kernel_size) if concat_input else None
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(channels, num_classes, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (batch, in_channels, rows, columns) to logits (batch, num_classes, rows, columns)."""
        features = self.convs(maps)
        if self.concat is not None:
            features = self.concat(torch.cat([maps, features], dim=1))
        return self.classifier(self.dropout(features))


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
    kind: Literal["linear", "fcn"] = "linear",
    settings: HeadSettings | None = None,
    side: int = SIDE,
    seed: int = 0,
) -> nn.Module:
    """Train a head on frozen token maps, with a progress bar, and return it in evaluation mode.

    Unlike in the original, images are not augmented: their features are computed once.

    Args:
        maps: (images, channels, rows, columns).
        masks: (images, height, width), classes or 255 where no loss is computed.
        side: rows and columns to which both are resized, maps bilinear and masks nearest.
        seed: of the initial weights and the order of images.
    """
    settings = settings or SETTINGS[kind]
    check_labels(masks, num_classes)
    wanted = resize_masks(masks, side)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = nn.Conv2d(maps.shape[1], num_classes, 1) if kind == "linear" else FCNHead(maps.shape[1], num_classes)
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
