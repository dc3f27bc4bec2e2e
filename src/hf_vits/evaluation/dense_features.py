"""Patch tokens of images with masks, from a frozen encoder."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm
from transformers import PreTrainedModel

from hf_vits.data.images import image_mode
from hf_vits.data.images.masked import MaskedImages
from hf_vits.layers.foreground import foreground_mask
from hf_vits.pretraining.class_attention import LastAttention, class_attention_layer
from hf_vits.processing.opening import to_mode

from .features import evaluating, token_map

FRACTION = 0.65  # of the attention that is foreground, when clusters are judged by it (0.6 while Leopart trains)


class DenseFeatures(NamedTuple):
    """Patch tokens of images, and their masks.

    Attributes:
        maps: (images, channels, rows, columns) of float32.
        masks: (images, side, side) of int64, classes or 255.
        region: (images, rows, columns), True in the foreground by the class token's attention; None without a class
            token.
    """

    maps: Tensor
    masks: Tensor
    region: Tensor | None


class MaskedSamples(Dataset):
    """Samples of images with masks: pixel_values (channels, size, size), and the mask (side, side) of int64.

    Images are resized to a square whatever their shape; masks likewise, to the nearest pixel.

    Args:
        size: height and width of the images in pixels.
        side: height and width of the masks.
    """

    def __init__(self, images: MaskedImages, processor, model: PreTrainedModel, size: int, side: int):
        self.images, self.processor, self.mode = images, processor, image_mode(model)
        self.size, self.side = {"height": size, "width": size}, (side, side)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        image, mask = self.images[index]
        made = self.processor(to_mode(image, self.mode), size=self.size, do_center_crop=False, return_tensors="pt")
        resized = Image.fromarray(mask.astype("int32")).resize(self.side, Image.Resampling.NEAREST)
        return {
            "pixel_values": made["pixel_values"][0],
            "mask": torch.frombuffer(bytearray(resized.tobytes()), dtype=torch.int32).view(self.side).long(),
        }


def extract_dense(
    model: PreTrainedModel, loader: Iterable[Mapping[str, Tensor]], fraction: float = FRACTION
) -> DenseFeatures:
    """Compute the patch tokens of images with masks, with a progress bar.

    Example: `extract_dense(load_encoder("user/leopart-vit-small"), DataLoader(samples, 16))`.

    Args:
        model: a plain encoder, set to evaluation mode meanwhile.
        loader: batches with pixel_values (batch, channels, height, width) and mask (batch, side, side).
        fraction: of the attention that is foreground.

    Raises:
        ValueError: the loader has no batches.
    """
    has_class_token = class_attention_layer(model) is not None
    maps, masks, regions = [], [], []
    with torch.no_grad(), evaluating(model):
        for batch in tqdm(loader, desc="Features", unit="batch", leave=False, disable=None):
            pixel_values = batch["pixel_values"].to(model.device, model.dtype)
            if has_class_token:
                with LastAttention(model) as last:
                    tokens = model(pixel_values).last_hidden_state
            else:
                tokens = model(pixel_values).last_hidden_state
            maps.append(token_map(tokens.float(), model.config, pixel_values.shape[-2:]))
            masks.append(batch["mask"].to(model.device))
            if has_class_token:
                regions.append(foreground_mask(last.of_class_token().unflatten(1, maps[-1].shape[2:]), fraction))
    if not maps:
        raise ValueError("expected at least one batch of images, got none")
    return DenseFeatures(torch.cat(maps), torch.cat(masks), torch.cat(regions) if regions else None)
