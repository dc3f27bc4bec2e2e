"""Features of images: what a frozen encoder makes of them."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
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
from hf_vits.pretraining.linear_probe.modeling_linear_probe import layer_features


def load_encoder(source: str, **fields) -> PreTrainedModel:
    """The encoder alone of a saved model, of whatever kind: plain, pretraining, or a classifier.

    Args:
        source: its directory or Hub repository; a ViT, DeiT or MAE may be transformers' own.
        fields: of its configuration, that differ.

    Raises:
        ValueError: a model that does not encode images, or an architecture that hf_vits does not have.
    """
    config = AutoConfig.from_pretrained(source, **fields)
    kinds = [AutoModelForPreTraining, AutoModel, AutoModelForImageClassification]
    if not config.model_type.startswith("hf_vits_"):  # whose plain ViT may come with a layer that was never trained
        kinds = [AutoModelForPreTraining, AutoModelForImageClassification]
    kind = next((kind for kind in kinds if type(config) in kind._model_mapping), None)
    if kind is None:
        raise ValueError(f"{source} is a model of type {config.model_type}, which does not encode images")
    encoder = plain_encoder(kind.from_pretrained(source, config=config))
    if encoder.main_input_name != "pixel_values" or getattr(encoder.config, "num_frames", None) is not None:
        raise ValueError(f"{source} is a {type(encoder).__name__}, which does not encode images")
    return encoder


def plain_encoder(model: Any) -> PreTrainedModel:
    """The encoder alone of any model: the export of one that pretrains, what a classifier stands on.

    Of transformers' own architectures it is ours; ValueError for those that we do not have.
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
    """Features and labels of labelled images, under a progress bar.

    Args:
        model: a plain encoder, as `plain_encoder` gives; it computes in evaluation mode.
        loader: batches with pixel_values (batch, channels, height, width) and labels (batch,).
        num_layers, patch_mean: what the features are, see `layer_features`; by default `pooler_output`.

    Returns:
        (images, channels) in float32 and (images,), both where the model is.
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
    """Evaluation mode for as long as it is entered."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
