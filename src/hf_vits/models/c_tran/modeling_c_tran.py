"""C-Tran: a transformer encoder over the tokens of an image and one token per label, whose state may be known.

Lanchantin et al., "General Multi-label Image Classification with Transformers", arXiv 2011.14027; QData/C-Tran
(models/CTran.py, models/CTran_cub.py).
"""

import math
import re
from dataclasses import dataclass

import torch
from torch import nn
from transformers import AutoBackbone
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import PreTrainedModel
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs, maybe_install_capturing_hooks

from ...layers.arguments import with_range
from ...layers.attention import SelfAttention, SplitHeads
from ...layers.convolution import to_tokens
from ...layers.mlp import MLP
from ...layers.multi_label import binary_cross_entropy, draw_known_labels, without_known
from ...layers.patch import check_pixel_values
from ...layers.transformer import leading
from ...modeling import (
    ClassifierOutput,
    EncoderOutput,
    VitsPreTrainedModel,
    init_as_torch,
    only_pooled_is_read,
    part_of_batch,
    recorded_states,
)
from .configuration_c_tran import AUXILIARY_SIDE, INCEPTION_SIDE, CTranConfig
from .inception_c_tran import InceptionV3
from .resnet_c_tran import ResNet


@dataclass
class CTranOutput(EncoderOutput):
    """Output of C-Tran, with the entries of `EncoderOutput` and:

    auxiliary_logits: (batch, num_labels), of Inception's auxiliary head; None without one.
    """

    auxiliary_logits: torch.Tensor | None = None


@dataclass
class CTranClassifierOutput(ClassifierOutput):
    """Output of the classifier, with the entries of `ClassifierOutput` and `auxiliary_logits` of `CTranOutput`."""

    auxiliary_logits: torch.Tensor | None = None


class CTranSplitHeads(SplitHeads):
    """Queries, keys and values of C-Tran's own layers, which the recorded states are; a backbone's are not."""


class CTranAttention(SelfAttention):
    """Self-attention over image and label tokens."""

    split_class = CTranSplitHeads


class CTranLayer(GradientCheckpointingLayer):
    """Post-norm transformer layer: norm(x + attention(x)), then norm(x + mlp(x))."""

    def __init__(self, config: CTranConfig):
        super().__init__()
        self.attention = CTranAttention(
            config,
            config.hidden_size,
            config.num_attention_heads,
            attention_dropout=config.attention_probs_dropout_prob,
            projection_dropout=config.hidden_dropout_prob,
        )
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = MLP(config.hidden_size, config.intermediate_size, config.hidden_act, config.hidden_dropout_prob)
        self.mlp_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden_states: torch.Tensor, num_queries: int | None = None, **kwargs) -> torch.Tensor:
        """Map (batch, tokens, hidden_size) to the same shape, or to the first `num_queries` tokens."""
        attended, _ = self.attention(hidden_states, num_queries=num_queries, **kwargs)
        hidden_states = self.attention_norm(leading(hidden_states, num_queries) + attended)
        return self.mlp_norm(hidden_states + self.mlp(hidden_states))


class AutoFeatures(nn.Module):
    """The last feature map of any backbone of `AutoBackbone`.

    Attributes:
        out_channels: of the feature map.
    """

    def __init__(self, config: CTranConfig):
        super().__init__()
        self.model = AutoBackbone.from_config(config.backbone_config)
        self.out_channels = self.model.channels[-1]
        if self.out_channels != config.hidden_size and not config.feature_projection:
            raise ValueError(
                f"hidden_size must be the {self.out_channels} channels of the backbone's last feature map, or "
                f"feature_projection True, got hidden_size={config.hidden_size}"
            )

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Map images (batch, channels, height, width) to the last feature map; there is no auxiliary head."""
        return self.model(pixel_values, return_dict=True).feature_maps[-1], None


BACKBONES = {"resnet": ResNet, "inception_v3": InceptionV3, "auto": AutoFeatures}


class CTranEmbeddings(nn.Module):
    """Label tokens, then image tokens without positions, in a joint layer norm."""

    def __init__(self, config: CTranConfig):
        super().__init__()
        self.config = config
        self.backbone = BACKBONES[config.backbone](config)
        channels = config.feature_size or self.backbone.out_channels
        self.projection = nn.Conv2d(channels, config.hidden_size, 1) if config.feature_projection else None
        self.dropout = nn.Dropout(config.feature_dropout_prob)
        self.label_embedding = nn.Embedding(config.num_labels, config.hidden_size)
        # The row of unknown labels gets no gradient, as an embedding of padding; it is not zero, however.
        self.state_embedding = nn.Embedding(3, config.hidden_size, padding_idx=0) if config.use_known_labels else None
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def check(self, pixel_values: torch.Tensor) -> None:
        """Raise ValueError for images that the backbone has no feature map of."""
        check_pixel_values(pixel_values, self.config.num_channels)
        smallest = AUXILIARY_SIDE if self.config.auxiliary_head else INCEPTION_SIDE
        if self.config.backbone == "inception_v3" and min(pixel_values.shape[-2:]) < smallest:
            head = " with its auxiliary head" if self.config.auxiliary_head else ""
            raise ValueError(
                f"Inception v3{head} needs images of {smallest} pixels or more on each side, got "
                f"{tuple(pixel_values.shape[-2:])}"
            )

    def label_tokens(self, pixel_values: torch.Tensor, known_labels: torch.Tensor | None) -> torch.Tensor:
        """Return the tokens of the labels of images: (batch, num_labels, hidden_size)."""
        batch_size, table = pixel_values.shape[0], self.label_embedding
        tokens = table(torch.arange(table.num_embeddings, device=pixel_values.device))
        if self.state_embedding is None:
            return tokens.expand(batch_size, -1, -1)
        expected = (batch_size, table.num_embeddings)
        if known_labels is None:
            known_labels = torch.full(expected, -1, device=tokens.device)
        if tuple(known_labels.shape) != expected:
            raise ValueError(
                f"known_labels must be {expected}, a state of each label: -1 unknown, 0 negative, 1 positive; got "
                f"shape {tuple(known_labels.shape)}"
            )
        states = known_labels.to(tokens.device).long() + 1
        try:
            return tokens + self.state_embedding(states)
        except IndexError as error:
            raise ValueError(
                f"known_labels must be -1 (unknown), 0 (negative) or 1 (positive), got {known_labels.unique()}"
            ) from error

    def forward(
        self, pixel_values: torch.Tensor, known_labels: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return tokens (batch, num_labels + cells, hidden_size), and the auxiliary logits or None."""
        self.check(pixel_values)
        feature_map, auxiliary_logits = self.backbone(pixel_values.to(self.label_embedding.weight.dtype))
        if auxiliary_logits is not None:
            auxiliary_logits = self.dropout(auxiliary_logits)
        feature_map = self.dropout(feature_map)
        if self.projection is not None:
            feature_map = self.projection(feature_map)
        labels = self.label_tokens(pixel_values, known_labels)
        return self.norm(torch.cat([labels, to_tokens(feature_map)], dim=1)), auxiliary_logits


class LabelwiseClassifier(nn.Module):
    """A linear classifier of its own for each label: row i of the weight reads the token of label i."""

    def __init__(self, hidden_size: int, num_labels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_labels, hidden_size))
        self.bias = nn.Parameter(torch.empty(num_labels))

    def forward(self, label_tokens: torch.Tensor) -> torch.Tensor:
        """Map (batch, num_labels, hidden_size) to logits (batch, num_labels)."""
        return (label_tokens * self.weight).sum(dim=-1) + self.bias


# {part of a key of transformers' ResNet: ours}
TRANSFORMERS_RESNET = {
    r"^embedder\.embedder\.": "stem.",
    r"^encoder\.": "",
    r"\.layers\.(\d+)\.layer\.0\.": r".\1.reduce.",
    r"\.layers\.(\d+)\.layer\.1\.": r".\1.convolution.",
    r"\.layers\.(\d+)\.layer\.2\.": r".\1.expand.",
    r"\.layers\.(\d+)\.shortcut\.": r".\1.shortcut.",
    r"convolution\.(weight)$": r"0.\1",
    r"normalization\.": "1.",
}


class CTranPreTrainedModel(VitsPreTrainedModel):
    """Base class of C-Tran's models.

    Attributes:
        initialized_by: model types of transformers whose weights `initialize_from` takes.
    """

    config_class = CTranConfig
    initialized_by = ("resnet",)

    def initialize_from(self, source: PreTrainedModel) -> None:
        """Start from the weights of transformers' `ResNetModel`, such as one trained on ImageNet.

        Raises:
            ValueError: the backbone is no ResNet of the same sizes.
        """
        backbone = self.base_model.embeddings.backbone  # pyright: ignore[reportAttributeAccessIssue]
        if not isinstance(backbone, ResNet) or getattr(source.config, "downsample_in_bottleneck", True):
            raise ValueError(
                f"a C-Tran with backbone={self.config.backbone!r} cannot start from {type(source).__name__} "
                f"({source.config.model_type}): both must be ResNets with the stride on the 3x3 convolution"
            )
        weights = {}
        for key, value in source.state_dict().items():
            for pattern, name in TRANSFORMERS_RESNET.items():
                key = re.sub(pattern, name, key)
            weights[key] = value
        expected = backbone.state_dict()
        if wrong := [
            k
            for k in expected.keys() | weights.keys()
            if k not in weights or k not in expected or weights[k].shape != expected[k].shape
        ]:
            raise ValueError(f"{len(wrong)} weights of the ResNet do not fit, such as {', '.join(sorted(wrong)[:5])}")
        backbone.load_state_dict(weights)

    _no_split_modules = ["CTranLayer", "Bottleneck", "Mixed"]
    _can_record_outputs = {
        "hidden_states": OutputRecorder(CTranLayer),
        "attentions": OutputRecorder(CTranAttention, index=1),
        "query_states": OutputRecorder(CTranSplitHeads, index=0),
        "key_states": OutputRecorder(CTranSplitHeads, index=1),
        "value_states": OutputRecorder(CTranSplitHeads, index=2),
    }

    @torch.no_grad()
    def _init_weights(self, module):
        """Initialise as the original: uniform in +-1 / sqrt(channels), the attention's input as PyTorch's.

        The backbones are torchvision's: the ResNet's convolutions He normal, Inception's truncated normal.
        """
        if isinstance(module, nn.Embedding | LabelwiseClassifier):
            bound = module.weight.shape[1] ** -0.5
            init.uniform_(module.weight, -bound, bound)
            if isinstance(module, LabelwiseClassifier):
                init.uniform_(module.bias, -bound, bound)
        elif getattr(module, "is_auxiliary", False):
            init_as_torch(module)
            init.trunc_normal_(module.weight, std=1e-3, a=-2e-3, b=2e-3)
        elif getattr(module, "is_fused", False):
            bound = math.sqrt(6 / (module.in_features + module.out_features))
            init.uniform_(module.weight, -bound, bound)
            init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            init_as_torch(module)
        elif isinstance(module, nn.Conv2d) and module.bias is None and self.config.backbone == "resnet":
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Conv2d) and module.bias is None and self.config.backbone == "inception_v3":
            init.trunc_normal_(module.weight, std=0.1, a=-0.2, b=0.2)
        else:
            super()._init_weights(module)


class CTranModel(CTranPreTrainedModel):
    """C-Tran encoder. `last_hidden_state` has the label tokens first; `pooler_output` is their mean."""

    _input_embed_layer = "label_embedding"

    def __init__(self, config: CTranConfig):
        super().__init__(config)
        self.embeddings = CTranEmbeddings(config)
        self.layers = nn.ModuleList(CTranLayer(config) for _ in range(config.num_hidden_layers))
        self.post_init()
        if config.backbone == "auto":
            self.record_without_backbone()

    def record_without_backbone(self) -> None:
        """Install the hooks that record outputs, except in the backbone, which has hooks of its own.

        transformers 5.24 otherwise installs those a second time, and the backbone returns the maps of other stages
        (findings/backbone_in_recording_model.sh).
        """
        backbone, self.embeddings.backbone = self.embeddings.backbone, nn.Identity()
        maybe_install_capturing_hooks(self)
        self.embeddings.backbone = backbone

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        known_labels: torch.Tensor | None = None,
        prefix_only: bool = False,
        **kwargs: Unpack[TransformersKwargs],
    ) -> CTranOutput:
        """Encode images.

        Args:
            pixel_values: (batch, num_channels, height, width), normalised by the image processor.
            known_labels: (batch, num_labels), -1 for unknown labels, 0 for negative and 1 for positive ones; None:
                all are unknown.
            prefix_only: compute only the label tokens of `last_hidden_state`, which saves most of the last layer's
                operations.
        """
        hidden_states, auxiliary_logits = self.embeddings(pixel_values, known_labels)
        *layers, last_layer = self.layers
        for layer in layers:
            hidden_states = layer(hidden_states, **kwargs)
        num_labels = self.config.num_labels
        hidden_states = last_layer(hidden_states, num_queries=num_labels if prefix_only else None, **kwargs)
        return CTranOutput(
            last_hidden_state=hidden_states,
            pooler_output=hidden_states[:, :num_labels].mean(dim=1),
            auxiliary_logits=auxiliary_logits,
        )


class CTranForImageClassification(CTranPreTrainedModel):
    """C-Tran with a linear classifier per label."""

    # Of which each row belongs to a label, in the order of the labels.
    label_weights = ("model.embeddings.label_embedding.weight", "classifier.weight", "classifier.bias")

    def __init__(self, config: CTranConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.model = CTranModel(config)
        self.classifier = LabelwiseClassifier(config.hidden_size, config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        known_labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> CTranClassifierOutput:
        """Classify images; in training with `labels` but without `known_labels`, random ones of them are made known.

        Args:
            pixel_values: (batch, num_channels, height, width), normalised by the image processor.
            labels: floats (batch, num_labels): 1 positive, 0 negative, NaN unknown; or indices (batch,) of the only
                positive label. The loss counts those that are neither NaN nor known.
            known_labels: (batch, num_labels), -1 for unknown labels, 0 for negative and 1 for positive ones; None:
                all are unknown.
        """
        labels = None if labels is None else self.as_states(labels)
        if labels is not None and known_labels is None and self.training and self.config.use_known_labels:
            known_labels = draw_known_labels(labels, self.config.known_label_fraction)
        prefix_only = only_pooled_is_read(self, self.model.layers[-1], kwargs)
        outputs = self.model(pixel_values, known_labels, prefix_only=prefix_only, return_dict=True, **kwargs)
        logits = self.classifier(outputs.last_hidden_state[:, : self.config.num_labels])
        loss = None
        if labels is not None:
            loss = self.loss(logits, outputs.auxiliary_logits, labels, known_labels, **kwargs)
        return CTranClassifierOutput(
            loss=loss, logits=logits, auxiliary_logits=outputs.auxiliary_logits, **recorded_states(outputs)
        )

    def further_logits(self, outputs: CTranClassifierOutput) -> list[tuple[torch.Tensor, float]]:
        """Return the logits that are trained beside `logits`, each with the weight of its loss."""
        weight, logits = self.config.auxiliary_loss_weight, outputs.auxiliary_logits
        return [] if logits is None or not weight else [(logits, weight)]

    def as_states(self, labels: torch.Tensor) -> torch.Tensor:
        """Return labels as floats (batch, num_labels); TypeError or ValueError for other shapes."""
        num_labels = self.config.num_labels
        if labels.ndim == 1 and not labels.is_floating_point():
            return with_range("labels", num_labels, lambda: torch.eye(num_labels, device=labels.device)[labels])
        if labels.ndim == 1 and num_labels == 1:
            labels = labels[:, None]
        if labels.ndim != 2 or labels.shape[1] != num_labels or not labels.is_floating_point():
            raise ValueError(
                f"labels must be floats (batch, {num_labels}), or indices (batch,) of torch.int64 where each has "
                f"one, got {labels.dtype} {tuple(labels.shape)}"
            )
        return labels

    def loss(self, logits, auxiliary_logits, labels, known_labels=None, **kwargs) -> torch.Tensor:
        """Return the loss over the labels that are neither NaN nor known; arguments as in `forward`."""
        if known_labels is not None and self.config.use_known_labels:
            labels = without_known(labels, known_labels)
        reduction = self.config.loss_reduction
        loss = binary_cross_entropy(logits, labels, reduction)
        if self.config.auxiliary_loss_weight:
            auxiliary_loss = binary_cross_entropy(auxiliary_logits, labels, reduction)
            loss = loss + self.config.auxiliary_loss_weight * auxiliary_loss
        return loss if reduction == "sum" else part_of_batch(loss, labels, **kwargs)


__all__ = ["CTranForImageClassification", "CTranModel", "CTranPreTrainedModel"]
