"""Features of images from a frozen encoder."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForPreTraining,
    PreTrainedModel,
)

from hf_vits import conversion
from hf_vits.hub.pull import pull
from hf_vits.hub.weights import check_complete
from hf_vits.layers.convolution import to_map
from hf_vits.layers.patch import square_grid
from hf_vits.pretraining.linear_probe.modeling_linear_probe import layer_features


def load_encoder(source: str, **fields) -> PreTrainedModel:
    """Load the image encoder of a saved model, which may be a plain encoder, a pretraining model or a classifier.

    Example: `load_encoder("user/dino-vit-small")`.

    Args:
        source: directory or Hub repository; a ViT, DeiT or MAE may be transformers' own.
        fields: configuration fields to change.

    Raises:
        ValueError: the model does not encode images, hf_vits does not have its architecture, or its weights lack
            tensors.
    """
    config = pull(AutoConfig, source, **fields)
    kinds = [AutoModelForPreTraining, AutoModel, AutoModelForImageClassification]
    if not config.model_type.startswith("hf_vits_"):  # AutoModel would add an untrained pooler to a ViT
        kinds = [AutoModelForPreTraining, AutoModelForImageClassification]
    kind = next((kind for kind in kinds if type(config) in kind._model_mapping), None)
    if kind is None:
        raise ValueError(f"{source} is a model of type {config.model_type}, which does not encode images")
    model, info = pull(kind, source, config=config, output_loading_info=True)
    # Of transformers' own models only the encoder is used, and not the pooler, which most lack.
    inside = "" if config.model_type.startswith("hf_vits_") else f"{model.base_model_prefix}."
    missing = [name for name in info["missing_keys"] if name.startswith(inside) and ".pooler." not in name]
    check_complete(source, type(model), missing)
    encoder = plain_encoder(model)
    if encoder.main_input_name != "pixel_values" or getattr(encoder.config, "num_frames", None) is not None:
        raise ValueError(f"{source} is a {type(encoder).__name__}, which does not encode images")
    return encoder


def plain_encoder(model: Any) -> PreTrainedModel:
    """Return the encoder of a model: `export()` of a pretraining model, the base model of a classifier.

    A model of transformers is converted to hf_vits.

    Raises:
        ValueError: hf_vits does not have the architecture.
    """
    if hasattr(model, "export"):
        return model.export().to(model.device, model.dtype)
    if not model.config.model_type.startswith("hf_vits_"):
        model = conversion.from_transformers(model).to(model.device, model.dtype)
    return model.base_model


def extract(
    model: PreTrainedModel,
    loader: Iterable[Mapping[str, Tensor]],
    num_layers: int = 1,
    patch_mean: bool = False,
) -> tuple[Tensor, Tensor]:
    """Compute features of labelled images, with a progress bar.

    Example: `features, labels = extract(load_encoder("user/dino-vit-small"), loader)`.

    Args:
        model: a plain encoder, see `plain_encoder`; it is set to evaluation mode meanwhile.
        loader: batches with pixel_values (batch, channels, height, width) and labels (batch,).
        num_layers, patch_mean: choice of features, see `layer_features`; by default `pooler_output`.

    Returns:
        Features (images, channels) in float32 and labels (images,), both on the model's device.

    Raises:
        ValueError: the loader has no batches.
    """
    features, labels = [], []
    with torch.no_grad(), evaluating(model):
        for batch in tqdm(loader, desc="Features", unit="batch", leave=False, disable=None):
            pixel_values = batch["pixel_values"].to(model.device, model.dtype)
            features.append(layer_features(model, pixel_values, num_layers, patch_mean).float())
            labels.append(batch["labels"].to(model.device))
    if not features:
        raise ValueError("expected at least one batch of images, got none")
    return torch.cat(features), torch.cat(labels)


@contextlib.contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Set a model to evaluation mode inside the context, and restore its mode afterwards."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def token_map(tokens: Tensor, config, size: Sequence[int]) -> Tensor:
    """Return patch tokens as a feature map (batch, channels, rows, columns), without the prefix tokens.

    Args:
        tokens: (batch, prefix and patch tokens, channels).
        config: the encoder's, with num_prefix_tokens.
        size: (height, width) of the images in pixels.
    """
    tokens = tokens[:, config.num_prefix_tokens :]
    return to_map(tokens, square_grid(tokens.shape[1], size))
