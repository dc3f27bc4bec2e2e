"""Compact Transformers for text: Transformer-Lite, ViT-Lite, CVT and CCT over word vectors.

Hassani et al., "Escaping the Big Data Paradigm with Compact Transformers", arXiv 2104.05704;
SHI-Labs/Compact-Transformers (src/text, src/utils/embedder.py, src/utils/tokenizer.py).

The released code runs only texts whose tokens are exactly as many as the rows of the position table, and takes a mask
only without convolution. These models compute the same there, and go on where it stops: shorter texts read the first
rows of the table, and padding on the right changes no result. Windows of words that would not be there without the
padding are zero, not attended to and not pooled.
"""

import torch
from torch import nn
from transformers import initialization as init
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from ...layers.position import SequencePositionEmbedding, SinePositionEmbedding
from ...modeling import EncoderOutput, classification_loss
from .configuration_cct_text import CctTextConfig
from .modeling_cct import CctPreTrainedModel, make_layers, make_pooler
from .tokenizer_cct import ConvTokenizer, Window


class CctTextEmbeddings(nn.Module):
    """Word vectors, or tokens made of windows of them, after the class token, with positions."""

    def __init__(self, config: CctTextConfig):
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.word_embedding_size, config.pad_token_id)
        self.tokenizer = self.make_tokenizer(config) if config.use_convolution else None
        count = config.num_prefix_tokens
        self.prefix_tokens = nn.Parameter(torch.zeros(1, count, config.hidden_size)) if count else None
        self.position_embedding = self.make_position_embedding(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def make_tokenizer(self, config: CctTextConfig) -> ConvTokenizer:
        pool = Window.along_sequence(config.pool_kernel_size, config.pool_stride, config.pool_padding)
        return ConvTokenizer(
            [config.word_embedding_size, config.hidden_size],
            Window.along_sequence(config.kernel_size, config.stride, config.padding),
            activation=config.conv_act,
            pool=pool if config.use_max_pool else None,
        )

    def make_position_embedding(self, config: CctTextConfig) -> nn.Module | None:
        """The original's table starts with a row meant for padding, which the first token gets."""
        num_positions = 1 + config.num_prefix_tokens + self.count(config.max_position_embeddings)
        if config.position_embedding_type == "none":
            return None
        if config.position_embedding_type == "sine":
            return SinePositionEmbedding(num_positions, config.hidden_size, num_zero_rows=1)
        return SequencePositionEmbedding(num_positions, config.hidden_size)

    def count(self, num_words: int) -> int:
        """Tokens of a text of so many words, without the class token; ValueError where it is too short for any."""
        shortest = 1 if self.tokenizer is None else self.tokenizer.smallest_input()[0]
        if num_words < shortest:
            raise ValueError(
                f"a text of {num_words} words is too short: pad it to at least {shortest} with pad_token_id"
            )
        return num_words if self.tokenizer is None else self.tokenizer.grid(num_words, 1)[0]

    def forward(
        self, input_ids: torch.Tensor, mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Embed words.

        Args:
            input_ids: (batch, words).
            mask: boolean (batch, words), False for padding, or None.

        Returns:
            The tokens (batch, prefix + tokens, hidden_size), and the mask over them (batch, prefix + tokens).
        """
        self.count(input_ids.shape[1])
        tokens = self.word_embeddings(input_ids)
        if mask is not None:
            tokens = tokens * mask[..., None]
        if self.tokenizer is not None:
            tokens, mask = self.tokenize(tokens, mask)
        if self.prefix_tokens is not None:
            tokens = torch.cat([self.prefix_tokens.expand(tokens.shape[0], -1, -1), tokens], dim=1)
            if mask is not None:
                mask = nn.functional.pad(mask, (self.prefix_tokens.shape[1], 0), value=True)
        if self.position_embedding is not None:
            tokens = tokens + self.position_embedding(tokens.shape[1])
        return self.dropout(tokens), mask

    def tokenize(self, words: torch.Tensor, mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Word vectors (batch, words, channels) and mask to tokens and mask, through an image of width 1."""
        image_mask = None if mask is None else mask[:, None, :, None]
        tokens, image_mask = self.tokenizer(words.transpose(1, 2)[..., None], image_mask)
        return tokens.squeeze(3).transpose(1, 2), None if mask is None else image_mask[:, 0, :, 0]


def attention_bias(config: CctTextConfig, tokens: torch.Tensor, mask: torch.Tensor):
    """What keeps padding out of attention, in the form that the attention implementation takes.

    Of a pair, query and key must both be real, so that a padded query, which has no key left, attends to all tokens
    alike: `MaskedAttention` in the original. Flex and flash attention cannot express that and mask keys alone, which
    changes the states of padding only.

    Args:
        tokens: (batch, tokens, hidden_size).
        mask: boolean (batch, tokens), False for padding.
    """
    if config._attn_implementation not in ("eager", "sdpa"):
        return create_bidirectional_mask(config, tokens, mask)
    dtype = tokens.dtype
    if torch.is_autocast_enabled(tokens.device.type):
        dtype = torch.get_autocast_dtype(tokens.device.type)  # that of the scores that the bias is added to
    both_real = mask[:, None, :, None] & mask[:, None, None, :]
    # Half of the most negative number, so that adding a score to it does not overflow.
    return torch.zeros_like(both_real, dtype=dtype).masked_fill(~both_real, torch.finfo(dtype).min / 2)


class CctTextPreTrainedModel(CctPreTrainedModel):
    config_class = CctTextConfig
    main_input_name = "input_ids"
    input_modalities = ("text",)

    @torch.no_grad()
    def _init_weights(self, module):
        """As for images; word vectors from a standard normal distribution."""
        if isinstance(module, nn.Embedding):
            init.normal_(module.weight)
            if module.padding_idx is not None and not getattr(module.weight, "_is_hf_initialized", False):
                init.zeros_(module.weight[module.padding_idx])
        else:
            super()._init_weights(module)


class CctTextModel(CctTextPreTrainedModel):
    """Compact Transformer encoder for text."""

    _input_embed_layer = "word_embeddings"

    def __init__(self, config: CctTextConfig):
        super().__init__(config)
        self.embeddings = CctTextEmbeddings(config)
        self.layers = make_layers(config)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.pooler = make_pooler(config)
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> EncoderOutput:
        """Encode texts.

        Args:
            input_ids: (batch, words), indices into the word table. Words after the last whole window are not read
                where the convolution has no border (ViT-Lite, CVT): pad to a multiple of kernel_size to have them.
            attention_mask: (batch, words), 0 for padding, 1 for words.
        """
        if input_ids is None or input_ids.ndim != 2:
            found = "nothing" if input_ids is None else f"shape {tuple(input_ids.shape)}"
            raise ValueError(f"You have to specify input_ids: (batch, words), got {found}")
        if attention_mask is not None and attention_mask.shape != input_ids.shape:
            raise ValueError(
                f"attention_mask must have the shape of input_ids, {tuple(input_ids.shape)}, got "
                f"{tuple(attention_mask.shape)}"
            )
        mask = None if attention_mask is None else attention_mask > 0
        hidden_states, mask = self.embeddings(input_ids, mask)
        bias = None if mask is None else attention_bias(self.config, hidden_states, mask)
        for layer in self.layers:
            hidden_states = layer(hidden_states, attention_mask=bias, **kwargs)
        hidden_states = self.norm(hidden_states)
        return EncoderOutput(last_hidden_state=hidden_states, pooler_output=self.pooler(hidden_states, mask))


class CctForSequenceClassification(CctTextPreTrainedModel):
    """Compact Transformer for text with a linear classifier on its pooled output."""

    def __init__(self, config: CctTextConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.model = CctTextModel(config)
        self.classifier = nn.Linear(config.pooler_size, config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> SequenceClassifierOutput:
        """Classify texts.

        Args:
            input_ids, attention_mask: (batch, words), as in `CctTextModel`.
            labels: (batch,) class indices, or (batch, num_labels) for regression and multi-label problems; the loss
                follows `config.problem_type` as everywhere in transformers.
        """
        outputs = self.model(input_ids, attention_mask, **kwargs)
        logits = self.classifier(outputs.pooler_output)
        loss = None
        if labels is not None:
            loss = classification_loss(self, labels, logits, **kwargs)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


__all__ = ["CctForSequenceClassification", "CctTextModel", "CctTextPreTrainedModel"]
