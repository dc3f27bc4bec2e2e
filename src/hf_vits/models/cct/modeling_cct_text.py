"""Compact Transformers for text: Transformer-Lite, ViT-Lite, CVT and CCT over word vectors.

Hassani et al., "Escaping the Big Data Paradigm with Compact Transformers", arXiv 2104.05704;
SHI-Labs/Compact-Transformers (src/text, src/utils/embedder.py, src/utils/tokenizer.py).

The original runs only texts with exactly as many tokens as the position table has rows, and takes a mask only without
convolution. For these inputs the results here are the same. Two extensions: shorter texts read the first rows of the
table, and padding on the right changes no result. Windows of words that exist only because of padding are set to zero,
not attended to and not pooled.
"""

import torch
from torch import nn
from transformers import initialization as init
from transformers.masking_utils import create_bidirectional_mask
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from ...layers.arguments import embed
from ...layers.position import SequencePositionEmbedding, SinePositionEmbedding
from ...modeling import ClassifierOutput, EncoderOutput, ForClassification
from .configuration_cct_text import CctTextConfig
from .modeling_cct import CctBaseEmbeddings, CctEncoder, CctPreTrainedModel, make_tokenizer
from .tokenizer_cct import Window


class CctTextEmbeddings(CctBaseEmbeddings):
    """Embeddings of text: the class token, then word vectors or tokens made of windows of them, with positions."""

    def __init__(self, config: CctTextConfig):
        channels = [config.word_embedding_size, config.hidden_size]
        tokenizer = make_tokenizer(config, channels, Window.along_sequence) if config.use_convolution else None
        super().__init__(config, tokenizer)
        self.word_embeddings = nn.Embedding(config.vocab_size, config.word_embedding_size, config.pad_token_id)
        self.position_embedding = self.make_position_embedding(config)

    def make_position_embedding(self, config: CctTextConfig) -> nn.Module | None:
        """Make the table, whose first row the original means for padding but gives to the first token."""
        num_positions = 1 + config.num_prefix_tokens + self.count(config.max_position_embeddings)
        if config.position_embedding_type == "none":
            return None
        if config.position_embedding_type == "sine":
            return SinePositionEmbedding(num_positions, config.hidden_size, num_zero_rows=1)
        return SequencePositionEmbedding(num_positions, config.hidden_size)

    def count(self, num_words: int) -> int:
        """Return how many tokens a text of `num_words` words has, without the class token.

        Raises ValueError where the text is too short for a single token.
        """
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
        tokens = embed(self.word_embeddings, "input_ids", input_ids)
        if mask is not None:
            tokens = tokens * mask[..., None]
        if self.tokenizer is not None:
            tokens, mask = self.tokenize(tokens, mask)
        num_prefix_tokens = 0 if self.prefix_tokens is None else self.prefix_tokens.shape[1]
        tokens = self.add_prefix(tokens)
        if mask is not None:
            mask = nn.functional.pad(mask, (num_prefix_tokens, 0), value=True)
        if self.position_embedding is not None:
            tokens = tokens + self.position_embedding(tokens.shape[1])
        return self.dropout(tokens), mask

    def tokenize(self, words: torch.Tensor, mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Map word vectors (batch, words, channels) and their mask to tokens and theirs, as an image of width 1."""
        image_mask = None if mask is None else mask[:, None, :, None]
        tokens = self.tokenizer(words.transpose(1, 2)[..., None], image_mask).squeeze(3).transpose(1, 2)
        return tokens, None if mask is None else self.tokenizer.mask_of_tokens(image_mask)[:, 0, :, 0]


def attention_bias(config: CctTextConfig, tokens: torch.Tensor, mask: torch.Tensor):
    """Return the attention mask that keeps padding out, in the form that the attention implementation takes.

    A query attends to a key where neither is padding. A padded query therefore has no key left and attends to all
    tokens equally, as in the original's `MaskedAttention`. Flex and flash attention cannot express this; they mask
    keys alone, which changes only the hidden states of padding.

    Args:
        tokens: (batch, tokens, hidden_size).
        mask: boolean (batch, tokens), False for padding.
    """
    if config._attn_implementation not in ("eager", "sdpa"):
        return create_bidirectional_mask(config, tokens, mask)
    dtype = tokens.dtype
    if torch.is_autocast_enabled(tokens.device.type):
        dtype = torch.get_autocast_dtype(tokens.device.type)  # the dtype of the scores, to which the bias is added
    both_real = mask[:, None, :, None] & mask[:, None, None, :]
    # Half of the most negative number, so that adding a score to it does not overflow.
    return torch.zeros_like(both_real, dtype=dtype).masked_fill(~both_real, torch.finfo(dtype).min / 2)


class CctTextPreTrainedModel(CctPreTrainedModel):
    config_class = CctTextConfig
    main_input_name = "input_ids"
    input_modalities = ("text",)

    @torch.no_grad()
    def _init_weights(self, module):
        """Initialise as for images; word vectors from a standard normal distribution."""
        if isinstance(module, nn.Embedding):
            init.normal_(module.weight)
            if module.padding_idx is not None and not getattr(module.weight, "_is_hf_initialized", False):
                init.zeros_(module.weight[module.padding_idx])
        else:
            super()._init_weights(module)


class CctTextModel(CctEncoder, CctTextPreTrainedModel):
    """Compact Transformer encoder of text."""

    _input_embed_layer = "word_embeddings"
    embeddings_class = CctTextEmbeddings

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
            input_ids: (batch, words), indices into the word table. Without padding in the convolution (ViT-Lite, CVT)
                words after the last whole window are not read; pad texts to a multiple of kernel_size.
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
        return self.encode(hidden_states, bias, mask, **kwargs)


class CctForSequenceClassification(ForClassification, CctTextPreTrainedModel):
    """Compact Transformer for text with a linear classifier on its pooled output."""

    model_class = CctTextModel

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ClassifierOutput:
        """Classify texts.

        Args:
            input_ids, attention_mask: (batch, words), as in `CctTextModel`.
            labels: as in `classify`.
        """
        return self.classify(self.model(input_ids, attention_mask, return_dict=True, **kwargs), labels, **kwargs)


__all__ = ["CctForSequenceClassification", "CctTextModel", "CctTextPreTrainedModel"]
