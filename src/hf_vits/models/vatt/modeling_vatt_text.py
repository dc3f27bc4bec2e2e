"""VATT's text encoders: one like T5's, and the transformer of video and audio.

Akbari et al., arXiv 2104.11178, section 3; google-research/vatt, modeling/backbones: text/factory.py, text/t5.py,
unified/uvatt.py.
"""

import math
from typing import Any

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from ...layers.arguments import check_ids, with_range
from ...layers.attention import padding_bias
from ...layers.frozen import FrozenParameters
from ...modeling import EncoderOutput
from .configuration_vatt_text import VattTextConfig
from .encoder_vatt import VattAttention, VattEmbeddings, VattEncoder, VattLayer, VattModalityModel, VattPreTrainedModel


class WordEmbedding(nn.Embedding):
    """Word embeddings whose errors name the model's argument."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        look_up = super().forward
        check_ids("input_ids", input)
        return with_range("input_ids", self.num_embeddings, lambda: look_up(input))


class FrozenEmbedding(FrozenParameters, WordEmbedding):
    """Word embeddings that are not trained."""


def word_embedding(config: VattTextConfig) -> nn.Embedding:
    """Return the table of word embeddings."""
    embedding_class = WordEmbedding if config.train_word_embeddings else FrozenEmbedding
    return embedding_class(config.vocab_size, config.embedding_size)


class VattWordEmbeddings(nn.Module):
    """Projected word embeddings, preceded by an aggregation token that is projected like a word."""

    def __init__(self, config: VattTextConfig):
        super().__init__()
        self.aggregation_token = nn.Parameter(torch.zeros(config.embedding_size))
        self.patch_embedding = word_embedding(config)
        self.pre_projection = nn.Linear(config.embedding_size, config.hidden_size, bias=False)
        self.activation = ACT2FN[config.hidden_act]
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Map words (batch, length) to (batch, 1 + length, hidden_size)."""
        words = self.patch_embedding(input_ids)
        words = torch.cat([self.aggregation_token.expand(words.shape[0], 1, -1), words], dim=1)
        return self.dropout(self.activation(self.pre_projection(words)))


class RelativeTextBias(nn.Module):
    """Learned bias of each head on the scores of pairs of tokens at a distance (T5, arXiv 1910.10683, section 2.1).

    Half of the buckets are for keys after the query. Of these, half are for one distance each, the others for
    distances that grow geometrically up to the largest, which all larger ones share.
    """

    def __init__(self, config: VattTextConfig):
        super().__init__()
        self.num_buckets = config.relative_attention_num_buckets
        self.max_distance = config.relative_attention_max_distance
        self.biases = nn.Embedding(self.num_buckets, config.num_attention_heads)

    def buckets(self, length: int, device: torch.device) -> torch.Tensor:
        """Return the bucket of each query and key, (queries, keys)."""
        positions = torch.arange(length, device=device)
        offsets = positions - positions[:, None]
        half = self.num_buckets // 2
        exact = half // 2
        distance = offsets.abs()
        scale = (half - exact) / math.log(self.max_distance / exact)
        far = exact + ((distance.clamp(min=1) / exact).log() * scale).to(torch.long)
        return torch.where(distance < exact, distance, far.clamp(max=half - 1)) + half * (offsets > 0)

    def forward(self, length: int) -> torch.Tensor:
        """Return the biases (1, heads, queries, keys)."""
        return self.biases(self.buckets(length, self.biases.weight.device)).permute(2, 0, 1)[None]


class UnscaledAttention(VattAttention):
    """Self-attention whose scores are not divided by the square root of the heads' channels."""

    def __init__(self, config, *arguments, **options):
        super().__init__(config, *arguments, **options)
        self.scaling = 1.0


class VattTextLayer(VattLayer):
    """Layer of the encoder like T5's: RMS norm before the attention, layer norm before the MLP."""

    attention_class = UnscaledAttention

    def __init__(self, config: VattTextConfig):
        super().__init__(config)
        self.attention_norm = nn.RMSNorm(config.hidden_size, eps=config.layer_norm_eps)


class VattTextEncoder(VattEncoder):
    """Encoder like T5's; its layers share the biases on the scores."""

    layer_class = VattTextLayer
    norm_class = nn.RMSNorm

    def __init__(self, config: VattTextConfig):
        super().__init__(config)
        self.relative_bias = RelativeTextBias(config)

    def forward(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs):
        bias: Any = self.relative_bias(hidden_states.shape[1])
        bias = bias if attention_mask is None else bias + attention_mask
        return super().forward(hidden_states, bias, **kwargs)


class VattTextPreTrainedModel(VattPreTrainedModel):
    """Base class of the models of text."""

    config_class = VattTextConfig
    main_input_name = "input_ids"
    input_modalities = ("text",)
    _supports_flash_attn = False  # flash attention supports no bias


class VattTextModel(VattModalityModel, VattTextPreTrainedModel):
    """Text encoder. `pooler_output` is the aggregation token."""

    def __init__(self, config: VattTextConfig, add_encoder: bool = True):
        if config.position_embedding_type == "relative":
            self.encoder_class = VattTextEncoder
        super().__init__(config, add_encoder)

    def make_embeddings(self, config: VattTextConfig) -> nn.Module:
        if config.position_embedding_type == "relative":
            return VattWordEmbeddings(config)
        return VattEmbeddings(config, word_embedding(config), config.embedding_size, config.grid)

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        encoder: VattEncoder | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> EncoderOutput:
        """Encode texts.

        Args:
            input_ids: words (batch, length).
            attention_mask: (batch, length), 0 for padding, which no token attends to; None for all words but
                `config.pad_token_id`.
            encoder: as in `VattVideoModel`.

        Returns:
            `last_hidden_state` (batch, 1 + length, channels), the aggregation token first.
        """
        self.check_input_ids(input_ids)
        assert input_ids is not None
        if attention_mask is None:
            pad = self.config.pad_token_id
            attention_mask = torch.ones_like(input_ids) if pad is None else input_ids != pad
        elif attention_mask.shape != input_ids.shape:
            raise ValueError(
                f"attention_mask must have the shape of input_ids {tuple(input_ids.shape)}, got "
                f"{tuple(attention_mask.shape)}"
            )
        tokens = self.embeddings(input_ids)
        mask = nn.functional.pad(attention_mask.bool(), (1, 0), value=True)
        bias = padding_bias(mask[:, None], tokens)
        return self.encode(tokens, encoder, prefix_only=False, attention_mask=bias, **kwargs)

    def check_input_ids(self, input_ids: torch.Tensor | None) -> None:
        """Raise ValueError unless the input is (batch, length) with at least one word."""
        if input_ids is None or input_ids.ndim != 2 or not input_ids.shape[1]:
            found = "nothing" if input_ids is None else f"shape {tuple(input_ids.shape)}"
            raise ValueError(
                f"You have to specify input_ids: (batch, length) with at least one word, got {found}; an empty text "
                "is padding alone"
            )


__all__ = ["VattTextModel", "VattTextPreTrainedModel"]
