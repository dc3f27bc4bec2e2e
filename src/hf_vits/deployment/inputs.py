"""Examples of the inputs of any model: names and shapes, without data."""

from typing import Any

import torch
from transformers import PreTrainedModel

from hf_vits.data.images import backbone_config
from hf_vits.pretraining.milan.modeling_milan import MILANForPreTraining
from hf_vits.pretraining.self_distillation import SelfDistillationModel

# Lengths of an example for models that take any length: a second at Audiomer's rate, and of frames every 10 ms.
SAMPLES, FRAMES = 8192, 100


def encoder_of(model: PreTrainedModel) -> PreTrainedModel:
    """Return the part that encodes an input: the model, the encoder before a decoder, or the student's backbone."""
    if model.config.is_encoder_decoder:
        return model.get_encoder()
    if isinstance(model, MILANForPreTraining):
        return model.encoder
    return model.student.backbone if isinstance(model, SelfDistillationModel) else model


def one_input(model: PreTrainedModel) -> dict[str, Any]:
    """Return the model's arguments for one input, on the meta device.

    That is an image (1, channels, height, width), clip (1, frames, channels, height, width), waveform (1, samples),
    spectrogram (1, frames, bins) or text (1, words); of a model of several modalities, one of each, or a dict of
    arrays (1, index, channels) by modality.
    """
    config = model.config if hasattr(model.config, "image_size") else backbone_config(model)
    if parts := getattr(model, "modality_models", None):
        return {name: example for part in parts for name, example in one_input(part).items()}
    if model.main_input_name == "inputs":
        names = config.batches[0]
        return {"inputs": {name: torch.empty(1, *config.sizes[name], device="meta") for name in names}}
    if model.main_input_name == "pixel_values":
        size = config.image_size
        height, width = (size, size) if isinstance(size, int) else size
        frames = () if getattr(config, "num_frames", None) is None else (config.num_frames,)
        return {"pixel_values": torch.empty(1, *frames, config.num_channels, height, width, device="meta")}
    if model.main_input_name == "input_values":
        return {"input_values": torch.empty(1, config.padded_length(SAMPLES), device="meta")}
    if model.main_input_name == "input_features":
        size = (getattr(config, "num_frames", FRAMES), config.num_mel_bins)
        return {"input_features": torch.empty(1, *size, device="meta")}
    return {"input_ids": torch.empty(1, config.max_position_embeddings, dtype=torch.long, device="meta")}
