"""What a model sees while it learns without labels, drawn by its method."""

from pathlib import Path

import torch
from transformers import PreTrainedModel

from hf_vits.analysis import pictures

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
    training = model.training
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        PICTURES[model.config.model_type](model.eval(), pixel_values.to(model.device), processor, path)
    model.train(training)
