"""Classifiers of selected patches: a small scorer finds them on the downscaled image, a feature network reads them.

Cordonnier et al., "Differentiable Patch Selection for Image Recognition", arXiv 2104.03059;
google-research/google-research, ptopk_patch_selection: image_classification.py, lib/layers/sample_patches.py.
"""

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import MODEL_MAPPING, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from ...configuration import VitsConfig, pair
from ...layers.attention import Attention
from ...layers.patch import check_pixel_values
from ...layers.patch_extraction import append_positions, cells_of, centred, hard_patches, soft_patches
from ...layers.topk import entropies, indicators_of, sinkhorn_topk, topk_indices
from ...modeling import ClassifierOutput, EncoderOutput, ForImageClassification, PreTrainedMixin, part_of_batch
from .aggregation_patch_selection import PatchPooling, PatchTransformer, PostNormLayer
from .configuration_patch_cnn import PatchCnnConfig
from .configuration_patch_selection import PatchSelectionConfig, normalization_steps
from .modeling_patch_cnn import PatchCnnModel, PatchCnnPreTrainedModel
from .scorer_patch_selection import PerturbedSelection, ScoreNormalization, Scorer


@dataclass
class PatchSelectionOutput(EncoderOutput):
    """Output of the base model.

    last_hidden_state: (batch, prefix + k, channels), the tokens that are aggregated.
    pooler_output: (batch, hidden_size), the features of the image.
    scores: (batch, rows, columns), normalised; None for random patches.
    indicators: (batch, k, cells), by which cells the patches are mixed; one-hot for hard selection.
    indices: (batch, k), the cell with the largest indicator of each patch.
    patches: (batch, k, channels, patch_size, patch_size), what the feature network saw.
    patch_features: (batch, k, feature_size).
    entropy, entropy_before_normalization: (batch,), in nats, of the scores of each image; None for random patches.
    auxiliary_loss: (batch,), whose mean is to be added to the classification loss: an entropy times its weight; None
        without entropy.
    """

    scores: torch.Tensor | None = None
    indicators: torch.Tensor | None = None
    indices: torch.Tensor | None = None
    patches: torch.Tensor | None = None
    patch_features: torch.Tensor | None = None
    entropy: torch.Tensor | None = None
    entropy_before_normalization: torch.Tensor | None = None
    auxiliary_loss: torch.Tensor | None = None


@dataclass
class PatchSelectionClassifierOutput(ClassifierOutput):
    """Output of the classifier: loss, which includes `auxiliary_loss`, logits, and the fields of the base model."""

    scores: torch.Tensor | None = None
    indicators: torch.Tensor | None = None
    indices: torch.Tensor | None = None
    patches: torch.Tensor | None = None
    patch_features: torch.Tensor | None = None
    entropy: torch.Tensor | None = None
    entropy_before_normalization: torch.Tensor | None = None
    auxiliary_loss: torch.Tensor | None = None


# Fields of the base model's output that the classifier returns as well.
SELECTION = ("scores", "indicators", "indices", "patches", "patch_features", "entropy")
SELECTION += ("entropy_before_normalization", "auxiliary_loss")


class PatchSelectionPreTrainedModel(PatchCnnPreTrainedModel):
    """Base class of the classifiers of selected patches."""

    config_class: type = PatchSelectionConfig
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _no_split_modules = ["PostNormLayer"]
    _can_record_outputs = {
        "hidden_states": OutputRecorder(PostNormLayer),
        "attentions": OutputRecorder(Attention, index=1, layer_name="layers"),
    }

    @property
    def needs_package(self) -> bool:
        """Whether the code of the feature network is beyond what a self-contained bundle holds."""
        feature = self.config.feature_config
        return isinstance(feature, VitsConfig) and not isinstance(feature, PatchCnnConfig)

    @torch.no_grad()
    def _init_weights(self, module):
        if isinstance(module, PatchTransformer):
            if module.class_token is not None:
                init.normal_(module.class_token, std=1 / module.class_token.shape[-1])
        elif isinstance(module, PerturbedSelection):
            init.ones_(module.sigma_multiplier)
        else:
            super()._init_weights(module)


class FeatureNetworkMixin(PreTrainedMixin):
    """Mixin of models around a feature network."""

    feature_network: Any

    def get_input_embeddings(self) -> nn.Module:
        """Return the first layer of the feature network."""
        return self.feature_network.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.feature_network.set_input_embeddings(value)


class PatchSelectionModel(FeatureNetworkMixin, PatchSelectionPreTrainedModel):
    """Scorer, selection, feature network and aggregation; `pooler_output` is what the original's classifier sees."""

    def __init__(self, config: PatchSelectionConfig):
        super().__init__(config)
        rows, columns = config.grid(*pair(config.image_size))
        self.scorer, self.normalization = None, None
        if config.has_scorer:
            channels = config.num_channels + 2 * config.append_position
            self.scorer = Scorer(channels, config.scorer_squeeze_excitation)
            self.normalization = ScoreNormalization(normalization_steps(config.score_normalization), rows * columns)
        methods = (config.selection_method, config.inference_selection_method)
        self.perturbed = PerturbedSelection(config) if "perturbed_topk" in methods else None
        self.feature_network = make_network(config.feature_config)
        is_transformer = config.aggregation_method == "transformer"
        self.aggregation = PatchTransformer(config, rows * columns) if is_transformer else PatchPooling(config)
        self.projection = nn.Linear(config.hidden_size, config.hidden_size)
        self.post_init()

    @classmethod
    def from_feature_network(cls, network: PreTrainedModel, **fields) -> "PatchSelectionModel":
        """Make a model around this feature network, an encoder or a classifier, whose weights it shares.

        Args:
            fields: fields of `PatchSelectionConfig`.
        """
        encoder = network.base_model
        model = cls(PatchSelectionConfig(feature_config=encoder.config, **fields))
        model.feature_network = encoder
        return model

    @property
    def method(self) -> str:
        """How patches are selected now, in training or in evaluation."""
        other = None if self.training else self.config.inference_selection_method
        return other or self.config.selection_method

    def score(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return scores (batch, rows, columns), normalised, and the entropies of images, downscaled first."""
        config = self.config
        size = [side // config.downscale for side in images.shape[-2:]]
        small = nn.functional.interpolate(images.float(), size, mode="bilinear", antialias=True).to(images.dtype)
        raw = self.scorer(small)
        flat = self.normalization(raw.flatten(1))
        probabilities = flat if "softmax" in config.score_normalization else flat.softmax(dim=-1)
        return {
            "scores": flat.view(raw.shape),
            "entropy": entropies(probabilities),
            "entropy_before_normalization": entropies(raw.flatten(1).float().softmax(dim=-1)),
        }

    def select(
        self, scores: torch.Tensor | None, images: torch.Tensor, noise: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Return the indices (batch, k) of hard selection and None, or None and the indicators (batch, k, cells)."""
        config, method = self.config, self.method
        rows, columns = config.grid(images.shape[-2], images.shape[-1])
        shape, k = (images.shape[0], rows * columns), config.num_patches
        indices = indicators = None
        if method == "random":
            indices = random_indices(shape, k, images.device)
        elif method == "hard_topk":
            indices = topk_indices(scores, k)
        elif method == "sinkhorn_topk":
            indicators = sinkhorn_topk(scores, k, config.sinkhorn_epsilon, config.sinkhorn_iterations)
        else:
            indicators = self.perturbed(scores, k, noise)
        if not self.training or method == "random":
            return indices, indicators
        if config.hard_topk_probability and indicators is not None:
            is_hard = torch.rand(shape[0], 1, 1, device=images.device) < config.hard_topk_probability
            indicators = torch.where(is_hard, indicators_of(topk_indices(scores, k), shape[1]), indicators)
        if config.random_patch_probability:
            others = random_indices(shape, k, images.device)
            is_random = torch.rand(shape[0], k, device=images.device) < config.random_patch_probability
            if indices is not None:
                indices = torch.where(is_random, others, indices)
            else:
                indicators = torch.where(is_random[..., None], indicators_of(others, shape[1]), indicators)  # pyright: ignore[reportCallIssue]
        return indices, indicators

    def extract(
        self, images: torch.Tensor, indices: torch.Tensor | None, indicators: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the patches (batch, k, channels, patch_size, patch_size), with the indices and indicators of both."""
        grid, patch = self.config.grid(images.shape[-2], images.shape[-1]), pair(self.config.patch_size)
        if indicators is None:
            indicators = indicators_of(indices, grid[0] * grid[1])
            return hard_patches(images, indices, patch, grid), indices, indicators  # pyright: ignore[reportReturnType]
        weights = indicators.unflatten(2, grid)
        if self.training and self.config.patch_dropout:
            kept = weights.new_ones(weights.shape[0], 1, *grid)
            weights = weights * nn.functional.dropout(kept, self.config.patch_dropout)
        cell = cells_of((images.shape[-2], images.shape[-1]), grid)
        patches = soft_patches(images, weights.to(images.dtype), patch, cell, centred(patch, cell))
        return patches, indicators.argmax(dim=-1), indicators

    def features(self, patches: torch.Tensor) -> torch.Tensor:
        """Return the features (batch, k, feature_size) of patches (batch, k, channels, patch_size, patch_size)."""
        outputs = self.feature_network(patches.flatten(0, 1), return_dict=True)
        features = outputs.pooler_output
        if features is None:
            states = outputs.last_hidden_state
            features = states.mean(dim=1) if states.ndim == 3 else states.flatten(2).mean(dim=2)
        return features.flatten(1).unflatten(0, patches.shape[:2])

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        selection_noise: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> PatchSelectionOutput:
        """Encode images.

        Args:
            pixel_values: (batch, num_channels, height, width).
            selection_noise: (batch or 1, num_samples, cells), standard normal, for perturbed top-k; None to draw it
                in training, and for the same noise at each call in evaluation.
        """
        config = self.config
        check_pixel_values(pixel_values, config.num_channels)
        images = pixel_values.to(self.dtype)
        config.grid(images.shape[-2], images.shape[-1])
        images = append_positions(images) if config.append_position else images
        scored = self.score(images) if config.has_scorer else {}
        images = append_positions(images) if config.append_position else images
        scores = scored["scores"].flatten(1) if scored else None
        patches, indices, indicators = self.extract(images, *self.select(scores, images, selection_noise))
        features = self.features(patches)
        tokens, pooled = self.aggregation(features, indicators, **kwargs)
        entropy = scored.get("entropy_before_normalization" if config.entropy_before_normalization else "entropy")
        is_regularized = config.entropy_weight and config.selection_method not in ("hard_topk", "random")
        return PatchSelectionOutput(
            last_hidden_state=tokens,
            pooler_output=nn.functional.silu(self.projection(pooled)),
            indicators=indicators,
            indices=indices,
            patches=patches,
            patch_features=features,
            auxiliary_loss=config.entropy_weight * entropy if is_regularized else None,
            **scored,
        )


def make_network(config: PreTrainedConfig) -> PreTrainedModel:
    """Return the feature network of a configuration; of transformers' models without poolers, which no file holds."""
    if isinstance(config, PatchCnnConfig):  # its class is beside this one, also in a repository's bundle
        return PatchCnnModel._from_config(config)
    options = {}
    if not isinstance(config, VitsConfig):
        parameters = inspect.signature(MODEL_MAPPING[type(config)].__init__).parameters
        options = {"add_pooling_layer": False} if "add_pooling_layer" in parameters else {}
    return AutoModel.from_config(config, **options)


def random_indices(shape: tuple[int, int], k: int, device: torch.device) -> torch.Tensor:
    """Return k different random indices of each row (batch, k) for a shape (batch, cells)."""
    return torch.rand(shape, device=device).topk(k, dim=-1).indices


class PatchSelectionForImageClassification(ForImageClassification, PatchSelectionPreTrainedModel):
    """Classifier of selected patches. Its loss includes the entropy of the scores."""

    model_class = PatchSelectionModel

    @classmethod
    def from_feature_network(cls, network: PreTrainedModel, **fields) -> "PatchSelectionForImageClassification":
        """Make a classifier around this feature network, an encoder or a classifier, whose weights it shares.

        Args:
            fields: fields of `PatchSelectionConfig`, such as `num_labels`.
        """
        encoder = network.base_model
        model = cls(PatchSelectionConfig(feature_config=encoder.config, **fields))
        model.model.feature_network = encoder
        return model

    def patch_boxes(self, indices: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """Return the boxes (batch, k, 4) of patches: left, top, right and bottom in pixels, also beyond the image.

        Args:
            indices: (batch, k), of cells, as the model returns them.
            height, width: of the images in pixels.
        """
        grid, side = self.config.grid(height, width), self.config.patch_size
        cell = cells_of((height, width), grid)
        above, before = centred((side, side), cell)
        top, left = indices // grid[1] * cell[0] - above, indices % grid[1] * cell[1] - before
        return torch.stack([left, top, left + side, top + side], dim=-1)

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        selection_noise: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> PatchSelectionClassifierOutput:
        """Classify images.

        Args:
            pixel_values: (batch, num_channels, height, width).
            labels: (batch,) class indices, or (batch, num_labels) for regression and multi-label problems.
            selection_noise: as in `PatchSelectionModel.forward`.
        """
        outputs = self.model(pixel_values, selection_noise=selection_noise, return_dict=True, **kwargs)
        classified = self.classify(outputs, labels, **kwargs)
        if classified.loss is not None and outputs.auxiliary_loss is not None:
            classified.loss = classified.loss + part_of_batch(outputs.auxiliary_loss.mean(), labels, **kwargs)
        return PatchSelectionClassifierOutput(**classified, **{name: outputs.get(name) for name in SELECTION})


__all__ = ["PatchSelectionForImageClassification", "PatchSelectionModel", "PatchSelectionPreTrainedModel"]
