"""Audiomer: strided convolutions over a raw waveform, each followed by Performer attention, without positions.

Sahu et al., "Audiomer: A Convolutional Transformer for Keyword Spotting", arXiv 2109.10252;
The-Learning-Machines/Audiomer-PyTorch (Audiomer/module.py, Audiomer/utils.py). The attention is from
lucidrains/performer-pytorch.
"""

from typing import Any

import torch
from torch import nn
from torchvision.ops import SqueezeExcitation
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from ...layers.mlp import GatedMLP
from ...layers.performer import (
    PerformerAttention,
    RandomFeatures,
    ScaleNorm,
    random_projection,
    redraw_projections,
)
from ...modeling import ClassifierOutput, EncoderOutput, ForClassification, VitsPreTrainedModel, init_as_torch
from .configuration_audiomer import (
    QUERY_STRIDE,
    RESIDUAL_KERNEL_SIZE,
    RESIDUAL_PADDINGS,
    AudiomerConfig,
)

SQUEEZED_CHANNELS = 8


class AudiomerConvolution(nn.Module):
    """Strided depth-wise convolution, batch norm, point-wise convolution and squeeze-and-excitation.

    The point-wise convolution pads a frame of zeros at both ends.
    """

    def __init__(self, config: AudiomerConfig, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        size = config.kernel_size
        self.convolution = nn.Sequential(
            nn.Conv1d(in_channels, in_channels, size, stride, padding=size - stride, groups=in_channels, bias=False),
            nn.BatchNorm1d(in_channels),
            nn.Conv1d(in_channels, out_channels, 1, padding=1, bias=False),
        )
        excites = config.use_squeeze_excitation
        self.squeeze_excitation = SqueezeExcitation(out_channels, SQUEEZED_CHANNELS) if excites else None

    def forward(self, waves: torch.Tensor) -> torch.Tensor:
        """Map (batch, in_channels, length) to frames as tokens, (batch, frames, out_channels)."""
        waves = self.convolution(waves)
        if self.squeeze_excitation is not None:
            waves = self.squeeze_excitation(waves[..., None]).squeeze(-1)
        return waves.transpose(1, 2)


class AudiomerAttention(nn.Module):
    """Base of Audiomer's attentions: Performer attention and a gated MLP, each with a norm."""

    def __init__(self, config: AudiomerConfig, hidden_size: int):
        super().__init__()
        self.attention_norm = ScaleNorm()
        self.attention = PerformerAttention(
            hidden_size,
            config.num_attention_heads,
            config.head_dim,
            config.num_random_features,
            bias=config.attention_type == "self",
            dropout=config.hidden_dropout_prob,
        )
        self.mlp_norm = ScaleNorm()
        self.mlp = GatedMLP(hidden_size, config.mlp_ratio * hidden_size, config.hidden_act)


class AudiomerCrossAttention(AudiomerAttention):
    """Attention of frames to the context, which is not normalised; one residual connection around everything."""

    def forward(self, frames: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """Map (batch, frames, hidden_size) to the same shape, for a context (batch, other frames, hidden_size)."""
        return frames + self.mlp(self.mlp_norm(self.attention(self.attention_norm(frames), context)))


class AudiomerSelfAttention(AudiomerAttention):
    """Self-attention of frames, with residual connections around attention, MLP and everything."""

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Map (batch, frames, hidden_size) to the same shape."""
        normed = self.attention_norm(frames)
        hidden_states = frames + self.attention(normed, normed)
        return frames + hidden_states + self.mlp(self.mlp_norm(hidden_states))


class AudiomerLayer(GradientCheckpointingLayer):
    """Audiomer layer: a convolution to half as many frames, attention, and a convolution as residual branch."""

    def __init__(self, config: AudiomerConfig, in_channels: int, out_channels: int, residual_padding: int):
        super().__init__()
        self.query = AudiomerConvolution(config, in_channels, out_channels, QUERY_STRIDE)
        # Built even where it is not used, as in the original, so that checkpoints keep all their weights.
        self.context = AudiomerConvolution(config, in_channels, out_channels, config.context_stride)
        self.attends_to_context = config.attention_type == "cross"
        self.attention = None
        if config.use_attention:
            attention_class = AudiomerCrossAttention if self.attends_to_context else AudiomerSelfAttention
            self.attention = attention_class(config, out_channels)
        self.residual = None
        if config.use_residual:
            size = RESIDUAL_KERNEL_SIZE
            self.residual = nn.Sequential(
                nn.Conv1d(in_channels, out_channels, size, size, residual_padding, bias=False),
                nn.BatchNorm1d(out_channels),
                nn.ReLU(),
            )

    def forward(self, waves: torch.Tensor) -> torch.Tensor:
        """Map (batch, in_channels, length) to (batch, out_channels, frames)."""
        frames = self.query(waves)
        if self.attention is not None:
            frames = self.attention(frames, self.context(waves)) if self.attends_to_context else self.attention(frames)
        frames = frames.transpose(1, 2)
        return frames if self.residual is None else frames + self.residual(waves)


class AudiomerPreTrainedModel(VitsPreTrainedModel):
    config_class = AudiomerConfig
    main_input_name = "input_values"
    input_modalities = ("audio",)
    _no_split_modules = ["AudiomerLayer"]
    # Performer attention has no attention implementations to choose from and no probabilities.
    _supports_sdpa = False
    _supports_flash_attn = False
    _supports_flex_attn = False
    _supports_attention_backend = False
    _can_record_outputs = {"hidden_states": OutputRecorder(AudiomerLayer)}

    @torch.no_grad()
    def _init_weights(self, module):
        """Initialise linear layers and convolutions as PyTorch, class samples normal, random features anew."""
        if isinstance(module, nn.Linear):
            init_as_torch(module)
        elif isinstance(module, RandomFeatures):
            init.copy_(module.projection, random_projection(*module.projection.shape))
        elif isinstance(module, ScaleNorm):
            init.ones_(module.scale)
        elif isinstance(module, AudiomerModel):
            if module.class_samples is not None:
                init.normal_(module.class_samples)
        else:
            super()._init_weights(module)

    def redraw_projections(self, seed: int) -> None:
        """Draw new random features for all layers, in place; outputs change slightly, as the approximation error does.

        A seed gives the same features on every device. performer-pytorch redraws every 1000 training steps, as the
        original did up to commit 6270ca27.
        """
        redraw_projections(self, seed)


class AudiomerModel(AudiomerPreTrainedModel):
    """Audiomer encoder. `hidden_states` are (batch, channels, length) of the waveform and of each layer."""

    def __init__(self, config: AudiomerConfig):
        super().__init__(config)
        count = config.num_class_samples
        self.class_samples = nn.Parameter(torch.zeros(1, 1, count)) if count else None
        sizes = zip([1, *config.hidden_sizes], config.hidden_sizes, RESIDUAL_PADDINGS, strict=False)
        self.layers = nn.ModuleList(AudiomerLayer(config, *size) for size in sizes)
        self.post_init()

    def check_input_values(self, input_values: torch.Tensor | None) -> None:
        """Raise ValueError unless the input is (batch, samples) of a legal length."""
        if input_values is None or input_values.ndim != 2:
            found = "nothing" if input_values is None else f"shape {tuple(input_values.shape)}"
            raise ValueError(f"You have to specify input_values: (batch, samples), got {found}")
        config, num_samples = self.config, input_values.shape[1]
        if not config.is_legal_length(num_samples):
            legal = f"multiples of {config.length_multiple}"
            if config.length_offset:
                legal += f", plus {config.length_offset}"
            raise ValueError(
                f"Audiomer cannot take waveforms of {num_samples} samples, only {legal}: pad them with zeros to "
                f"{config.padded_length(num_samples)}, as the model's feature extractor does"
            )

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(self, input_values: torch.Tensor | None = None, **kwargs: Unpack[TransformersKwargs]) -> EncoderOutput:
        """Encode waveforms.

        Args:
            input_values: (batch, samples), mono at 8192 Hz as the originals were trained, of a length that
                `config.is_legal_length` allows; ValueError otherwise.

        Returns:
            `last_hidden_state` (batch, frames, channels), and `pooler_output` (batch, channels).
        """
        self.check_input_values(input_values)
        first: Any = self.layers[0]
        waves = input_values[:, None].to(first.query.convolution[0].weight.dtype)
        if self.class_samples is not None:
            waves = torch.cat([self.class_samples.expand(waves.shape[0], -1, -1), waves], dim=2)
        if self.training and self.is_activation_checkpointing:
            waves.requires_grad_()  # re-entrant checkpoints need an input that requires gradients
        for layer in self.layers:
            waves = layer(waves)
        pooled = waves.mean(dim=2) if self.config.pooling == "mean" else waves[:, :, 0]
        return EncoderOutput(last_hidden_state=waves.transpose(1, 2), pooler_output=pooled)


class AudiomerForAudioClassification(ForClassification, AudiomerPreTrainedModel):
    """Audiomer with a classifier of two linear layers on its pooled output."""

    model_class = AudiomerModel

    @staticmethod
    def make_classifier(config: AudiomerConfig) -> nn.Module:
        size = config.pooler_size
        return nn.Sequential(
            nn.Linear(size, size),
            ACT2FN[config.hidden_act],
            nn.Dropout(config.classifier_dropout_prob),
            nn.Linear(size, config.num_labels),
        )

    @can_return_tuple
    def forward(
        self,
        input_values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ClassifierOutput:
        """Classify waveforms.

        Args:
            input_values: (batch, samples), as in `AudiomerModel`.
            labels: as in `ForClassification.classify`.
        """
        return self.classify(self.model(input_values, return_dict=True, **kwargs), labels, **kwargs)


__all__ = ["AudiomerForAudioClassification", "AudiomerModel", "AudiomerPreTrainedModel"]
