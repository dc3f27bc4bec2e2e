"""SepTr: every bin of a spectrogram is a token that attends along frequency, then along time.

Ristea, Ionescu and Khan, "SepTr: Separable Transformer for Audio Spectrogram Processing", arXiv 2203.09581;
ristea/septr (septr.py, septr_block.py).
"""

import torch
from torch import nn
from transformers import initialization as init
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from ...layers.attention import SelfAttention
from ...layers.convolution import to_tokens
from ...layers.stages import Stage
from ...layers.transformer import TransformerLayer
from ...modeling import (
    ClassifierOutput,
    EncoderOutput,
    ForClassification,
    VitsHierarchicalPreTrainedModel,
    init_as_torch,
)
from .configuration_septr import AXES, SepTrConfig


class SepTrEmbeddings(nn.Module):
    """Embedding of every bin of a spectrogram, or every window of bins, as a token."""

    def __init__(self, config: SepTrConfig):
        super().__init__()
        self.config = config
        self.projection = nn.Linear(config.num_channels, config.hidden_size)

    def check_input_features(self, input_features: torch.Tensor | None) -> None:
        """Raise ValueError unless the input has the shape that the model is made for."""
        config = self.config
        size = (config.num_frames, config.num_mel_bins)
        expected = size if config.num_channels == 1 else (config.num_channels, *size)
        if input_features is None or input_features.shape[1:] != expected:
            found = "nothing" if input_features is None else f"shape {tuple(input_features.shape)}"
            names = "frames, mel bins" if config.num_channels == 1 else "channels, frames, mel bins"
            shape = f"(batch, {names}) = (batch, {', '.join(map(str, expected))})"
            raise ValueError(
                f"You have to specify input_features: {shape}, got {found}. Positions exist only for this size: pad "
                "or crop the audio, as the model's feature extractor does, or build a model with another num_frames "
                "and num_mel_bins"
            )

    def forward(self, input_features: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Map features, see `SepTrModel.forward`, to a feature map (batch, hidden_size, bins, frames) of `dtype`."""
        self.check_input_features(input_features)
        features = input_features[:, None] if self.config.num_channels == 1 else input_features
        features = features.transpose(2, 3).to(dtype)
        if self.config.pool_size is not None:
            features = nn.functional.avg_pool2d(features, tuple(self.config.pool_size))
        return self.projection(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class SepTrAttention(SelfAttention):
    """Self-attention with heads of `head_dim` channels; a single head of `hidden_size` has no output projection."""

    def __init__(self, config: SepTrConfig, hidden_size: int, num_heads: int, **options):
        super().__init__(config, hidden_size, num_heads, attention_size=num_heads * config.head_dim, **options)
        if num_heads == 1 and config.head_dim == hidden_size:
            self.projection = nn.Identity()


class SepTrTransformerLayer(TransformerLayer):
    attention_class = SepTrAttention


class SepTrAxis(nn.Module):
    """Transformer layer along one axis: every row or column is a separate sequence with the class token first.

    Args:
        axis: "frequency" or "time".
    """

    def __init__(self, config: SepTrConfig, axis: str):
        super().__init__()
        self.dim = 2 + AXES.index(axis)
        length = config.grid[AXES.index(axis)]
        self.position_embedding = nn.Parameter(torch.zeros(1, 1, 1 + length, config.hidden_size))
        self.layer = SepTrTransformerLayer(config)

    def forward(
        self, feature_map: torch.Tensor, class_token: torch.Tensor, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Map a feature map and a class token to a new feature map and class token.

        All sequences start with the same class token; its outputs are averaged.

        Args:
            feature_map: (batch, channels, bins, frames).
            class_token: (batch or 1, channels).
        """
        lines = feature_map.movedim((5 - self.dim, self.dim, 1), (1, 2, 3))
        batch, count = lines.shape[:2]
        class_tokens = class_token[:, None, None].expand(batch, count, -1, -1)
        # The concatenation also makes the tokens of a sequence contiguous, without another copy.
        tokens = torch.cat([class_tokens, lines], dim=2) + self.position_embedding
        tokens = self.layer(tokens.flatten(0, 1), **kwargs).unflatten(0, (batch, count))
        lines = tokens[:, :, 1:]
        return lines.movedim((1, 2, 3), (5 - self.dim, self.dim, 1)), tokens[:, :, 0].mean(dim=1)


class SepTrLayer(Stage):
    """Transformer layers along the axes, one after the other."""

    def __init__(self, config: SepTrConfig):
        super().__init__()
        self.axes = nn.ModuleList(SepTrAxis(config, axis) for axis in config.axes)

    def forward(
        self, feature_map: torch.Tensor, class_token: torch.Tensor, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Map a feature map and a class token to new ones; arguments as in `SepTrAxis.forward`."""
        for axis in self.axes:
            feature_map, class_token = axis(feature_map, class_token, **kwargs)
        return feature_map, class_token


class SepTrPreTrainedModel(VitsHierarchicalPreTrainedModel):
    config_class = SepTrConfig
    main_input_name = "input_features"
    input_modalities = ("audio",)
    _no_split_modules = ["SepTrTransformerLayer"]

    def __call__(self, *args, **kwargs):
        """Call `forward`; ValueError for an attention mask, which would not keep padding out of the attention."""
        if kwargs.get("attention_mask") is not None:
            raise ValueError(
                "SepTr takes no attention_mask: padded frames count as signal. Make the feature extractor with "
                "return_attention_mask=False"
            )
        return super().__call__(*args, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module):
        """Initialise linear layers as PyTorch, positions and class token from a standard normal distribution."""
        if isinstance(module, nn.Linear):
            init_as_torch(module)
        elif isinstance(module, SepTrAxis):
            init.normal_(module.position_embedding)
        elif isinstance(module, SepTrModel):
            init.normal_(module.class_token)
        else:
            super()._init_weights(module)


class SepTrModel(SepTrPreTrainedModel):
    """SepTr encoder. `pooler_output` is the class token.

    `hidden_states` are feature maps (batch, channels, bins, frames). `attentions` are (batch * sequences, heads, 1 +
    length, 1 + length) for each axis of each layer; for attention along frequency, each frame is a sequence. With
    `pool_size`, the original upsamples after every layer and pools again in the next, with the same result; here
    feature maps stay pooled.
    """

    _input_embed_layer = "projection"

    def __init__(self, config: SepTrConfig):
        super().__init__(config)
        self.embeddings = SepTrEmbeddings(config)
        self.class_token = nn.Parameter(torch.zeros(1, config.hidden_size))
        self.layers = nn.ModuleList(SepTrLayer(config) for _ in range(config.num_hidden_layers))
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self, input_features: torch.Tensor | None = None, **kwargs: Unpack[TransformersKwargs]
    ) -> EncoderOutput:
        """Encode spectrograms.

        Args:
            input_features: (batch, frames, mel bins) of `config.num_frames` and `config.num_mel_bins`, in the order of
                transformers' models of spectrograms; (batch, channels, frames, mel bins) where `config.num_channels`
                is not 1.

        Returns:
            `last_hidden_state` (batch, 1 + bins * frames, channels): the class token, then the map, bin by bin.
        """
        class_token = self.class_token
        feature_map = self.embeddings(input_features, class_token.dtype)
        for layer in self.layers:
            feature_map, class_token = layer(feature_map, class_token, **kwargs)
        tokens = torch.cat([class_token[:, None], to_tokens(feature_map)], dim=1)
        return EncoderOutput(last_hidden_state=tokens, pooler_output=class_token)


class SepTrForAudioClassification(ForClassification, SepTrPreTrainedModel):
    """SepTr with a linear classifier on its class token."""

    model_class = SepTrModel

    @can_return_tuple
    def forward(
        self,
        input_features: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ClassifierOutput:
        """Classify spectrograms.

        Args:
            input_features: as in `SepTrModel`.
            labels: as in `ForClassification.classify`.
        """
        return self.classify(self.model(input_features, return_dict=True, **kwargs), labels, **kwargs)


__all__ = ["SepTrForAudioClassification", "SepTrModel", "SepTrPreTrainedModel"]
