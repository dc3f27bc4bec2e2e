"""What a model sees while it learns without labels, drawn by its method."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from hf_vits.figures import features as pictures
from hf_vits.pretraining.ibot.modeling_ibot import LastAttention

# The picture that says most of a method, by the type of its configuration.
PICTURES = {
    "hf_vits_mae": pictures.draw_reconstructions,
    "hf_vits_sit": pictures.draw_reconstructions,
    "hf_vits_dino": pictures.draw_attention,
    "hf_vits_ibot": pictures.draw_masks,
    "hf_vits_esvit": pictures.draw_patch_components,
}


def draw_what_it_sees(model: PreTrainedModel, pixel_values: torch.Tensor, processor, path: Path) -> None:
    """A picture of images (images, channels, height, width) through the model, which stays as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        picture_of(model)(model, pixel_values, processor, path)


def picture_of(model: Any) -> Callable:
    """The function of `analysis.pictures` that draws it; of an encoder without a class token the patches' features."""
    drawn = PICTURES[model.config.model_type]
    if drawn is pictures.draw_attention:
        try:
            LastAttention(model.teacher.backbone)
        except ValueError:
            return pictures.draw_patch_components
    return drawn
