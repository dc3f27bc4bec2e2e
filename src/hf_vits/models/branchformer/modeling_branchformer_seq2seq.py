"""Branchformer with a transformer decoder beside CTC (Watanabe et al., "Hybrid CTC/Attention Architecture", 2017).

espnet/espnet (espnet2/asr/espnet_model.py, espnet2/asr/decoder/transformer_decoder.py).
"""

import warnings
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.generation.utils import GenerationMixin
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import (
    BaseModelOutput,
    BaseModelOutputWithPastAndCrossAttentions,
    Seq2SeqLMOutput,
)
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from ...layers.arguments import embed
from ...layers.attention import Attention, SelfAttention, attend, padding_bias
from ...layers.mlp import MLP
from ...layers.sequence_losses import PADDING, check_labels, ctc_loss, smoothed_divergence
from .configuration_branchformer_seq2seq import BranchformerSeq2SeqConfig
from .modeling_branchformer import BranchformerModel, BranchformerOutput, BranchformerPreTrainedModel
from .positions_branchformer import Sinusoids

# The installed transformers' name of the cache in arguments and outputs: "cache" since 5.24, "past_key_values" before.
(CACHE_NAME,) = {"cache", "past_key_values"} & {field.name for field in fields(Seq2SeqLMOutput)}


def given_cache(
    cache: EncoderDecoderCache | None, past_key_values: EncoderDecoderCache | None
) -> EncoderDecoderCache | None:
    """Return the cache that a method was given under either of its two names.

    As transformers' own models do, it warns of the old name where transformers has the new one.

    Raises:
        TypeError: it was given under both, or is no `EncoderDecoderCache`.
        ValueError: it has a fixed length.
    """
    if cache is not None and past_key_values is not None:
        raise TypeError("cache and past_key_values are two names of one argument, got both: give one")
    if past_key_values is not None and CACHE_NAME == "cache":
        warnings.warn("`past_key_values` is deprecated: give the argument `cache`", FutureWarning, stacklevel=3)
    cache = past_key_values if cache is None else cache
    if cache is None:
        return None
    if not isinstance(cache, EncoderDecoderCache):
        raise TypeError(
            f"the cache must be an EncoderDecoderCache, got {type(cache).__name__}: give "
            "EncoderDecoderCache(DynamicCache(), DynamicCache())"
        )
    if cache.is_compileable:
        raise ValueError("the decoder needs a cache that grows, got one of a fixed length: give a DynamicCache")
    return cache


@dataclass
class HybridOutput(Seq2SeqLMOutput):
    """Output of `BranchformerForSpeechSeq2Seq`; `logits` (batch, tokens, vocab_size) are the decoder's.

    With labels there are `loss` and:
    ctc_logits: (batch, frames after subsampling, vocab_size).
    ctc_loss, decoder_loss: scalar parts of the loss.
    """

    ctc_logits: torch.Tensor | None = None
    ctc_loss: torch.Tensor | None = None
    decoder_loss: torch.Tensor | None = None


class DecoderSelfAttention(SelfAttention):
    """Self-attention of text tokens, also to cached tokens of earlier calls.

    Args:
        index: index of the layer in the cache.
    """

    def __init__(self, config: BranchformerSeq2SeqConfig, index: int):
        dropout = config.decoder_attention_dropout
        super().__init__(config, config.hidden_size, config.decoder_attention_heads, attention_dropout=dropout)
        self.index = index

    def forward(
        self,
        tokens: torch.Tensor,
        attention_mask: torch.Tensor,
        cache: EncoderDecoderCache | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Map (batch, tokens, hidden_size) to the same shape, and the probabilities where the implementation has them.

        Args:
            attention_mask: additive bias that broadcasts to (batch, heads, tokens, all tokens).
        """
        query, key, value = self.split(self.qkv(tokens))
        if cache is not None:
            key, value = cache.self_attention_cache.update(key, value, self.index)
        attended, probabilities = attend(self, query, key, value, attention_mask, **kwargs)
        return self.projection(attended.flatten(2)), probabilities


class CrossAttention(Attention):
    """Attention of text tokens to the encoder's frames, with cached keys and values.

    Args:
        index: index of the layer in the cache.
    """

    def __init__(self, config: BranchformerSeq2SeqConfig, index: int):
        hidden_size, num_heads = config.hidden_size, config.decoder_attention_heads
        super().__init__(config, (hidden_size // num_heads) ** -0.5, config.decoder_attention_dropout)
        self.index = index
        self.num_heads = num_heads
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key_value = nn.Linear(hidden_size, 2 * hidden_size)
        self.projection = nn.Linear(hidden_size, hidden_size)

    def forward(
        self,
        tokens: torch.Tensor,
        frames: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        cache: EncoderDecoderCache | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Map (batch, tokens, hidden_size) to the same shape, and the probabilities where the implementation has them.

        Args:
            frames: (batch, frames, hidden_size).
            attention_mask: additive bias that broadcasts to (batch, heads, tokens, frames), or None.
        """
        query = self.query(tokens).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        key, value = self.keys_and_values(frames, cache)
        attended, probabilities = attend(self, query, key, value, attention_mask, **kwargs)
        return self.projection(attended.flatten(2)), probabilities

    def keys_and_values(self, frames: torch.Tensor, cache: EncoderDecoderCache | None) -> tuple[torch.Tensor, ...]:
        """Return keys and values (batch, heads, frames, head_dim); after the first call from the cache."""
        if cache is not None and cache.is_updated.get(self.index):
            layer: Any = cache.cross_attention_cache.layers[self.index]
            return layer.keys, layer.values
        key, value = self.key_value(frames).unflatten(-1, (2, self.num_heads, -1)).transpose(1, 3).unbind(2)
        if cache is not None:
            key, value = cache.cross_attention_cache.update(key, value, self.index)
            cache.is_updated[self.index] = True
        return key, value


class BranchformerDecoderLayer(GradientCheckpointingLayer):
    """Pre-norm decoder layer: self-attention, cross-attention to the encoder's frames, and an MLP."""

    def __init__(self, config: BranchformerSeq2SeqConfig, index: int):
        super().__init__()
        size, eps = config.hidden_size, config.layer_norm_eps
        self.attention_norm = nn.LayerNorm(size, eps=eps)
        self.attention = DecoderSelfAttention(config, index)
        self.cross_attention_norm = nn.LayerNorm(size, eps=eps)
        self.cross_attention = CrossAttention(config, index)
        self.mlp_norm = nn.LayerNorm(size, eps=eps)
        self.mlp = MLP(size, config.decoder_ffn_dim, "relu", config.decoder_dropout)
        self.dropout = nn.Dropout(config.decoder_dropout)

    def forward(
        self,
        tokens: torch.Tensor,
        frames: torch.Tensor,
        causal_bias: torch.Tensor,
        frame_bias: torch.Tensor | None,
        cache: EncoderDecoderCache | None = None,
        **kwargs,
    ) -> torch.Tensor:
        """Map (batch, tokens, hidden_size) to the same shape; the biases are of attention to tokens and to frames."""
        attended, _ = self.attention(self.attention_norm(tokens), causal_bias, cache, **kwargs)
        tokens = tokens + self.dropout(attended)
        attended, _ = self.cross_attention(self.cross_attention_norm(tokens), frames, frame_bias, cache, **kwargs)
        tokens = tokens + self.dropout(attended)
        return tokens + self.mlp(self.mlp_norm(tokens))


class BranchformerSeq2SeqPreTrainedModel(BranchformerPreTrainedModel):
    config_class = BranchformerSeq2SeqConfig
    _no_split_modules = ["BranchformerLayer", "BranchformerDecoderLayer"]
    _can_compile_fullgraph = False  # the length of the text changes in generation

    @torch.no_grad()
    def _init_weights(self, module):
        if isinstance(module, nn.Embedding):
            init.normal_(module.weight)
        else:
            super()._init_weights(module)


class BranchformerDecoder(BranchformerSeq2SeqPreTrainedModel):
    """Transformer decoder: hidden states of text tokens given the encoder's frames; `head` maps them to logits."""

    main_input_name = "input_ids"
    input_modalities = ("text",)
    _can_record_outputs = {
        "hidden_states": OutputRecorder(BranchformerDecoderLayer),
        "attentions": OutputRecorder(DecoderSelfAttention, index=1),
        "cross_attentions": OutputRecorder(CrossAttention, index=1),
    }

    def __init__(self, config: BranchformerSeq2SeqConfig):
        super().__init__(config)
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.positions = Sinusoids(config.max_source_positions, config.hidden_size)
        self.dropout = nn.Dropout(config.decoder_dropout)
        self.layers = nn.ModuleList(BranchformerDecoderLayer(config, index) for index in range(config.decoder_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.head = nn.Linear(config.hidden_size, config.vocab_size)
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_ids: torch.Tensor,
        frames: torch.Tensor,
        token_mask: torch.Tensor | None = None,
        frame_mask: torch.Tensor | None = None,
        cache: EncoderDecoderCache | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPastAndCrossAttentions:
        """Read a text, or what follows the text that a cache holds.

        Args:
            input_ids: (batch, tokens), after the start token.
            frames: (batch, frames, hidden_size), the encoder's.
            token_mask, frame_mask: boolean (batch, all tokens) and (batch, frames), False for padding; None for none.
            cache, past_key_values: keys and values of the tokens before, under either name.

        Returns:
            last_hidden_state (batch, tokens, hidden_size), and the cache, which then holds these tokens too.
        """
        cache = given_cache(cache, past_key_values)
        if cache is not None and self.training and self.is_activation_checkpointing and torch.is_grad_enabled():
            raise ValueError(
                "gradient checkpointing computes layers twice and would fill the cache twice: leave use_cache and the "
                "cache out while training, or call model.eval()"
            )
        first = 0 if cache is None else cache.get_seq_length()
        length = first + input_ids.shape[1]
        positions = self.positions(length)[first:].to(input_ids.device)
        embedded = embed(self.embeddings, "decoder_input_ids", input_ids)
        tokens = self.dropout(embedded * self.config.hidden_size**0.5 + positions)
        causal = torch.ones(1, length, length, dtype=torch.bool, device=tokens.device).tril()[:, first:]
        causal_bias = padding_bias(causal if token_mask is None else causal & token_mask[:, None], tokens)
        frame_bias = None if frame_mask is None else padding_bias(frame_mask[:, None], tokens)
        for layer in self.layers:
            tokens = layer(tokens, frames, causal_bias, frame_bias, cache, **kwargs)
        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=self.norm(tokens), **{CACHE_NAME: cache})


class BranchformerForSpeechSeq2Seq(BranchformerSeq2SeqPreTrainedModel, GenerationMixin):
    """Hybrid model: CTC on the encoder's frames, and an autoregressive decoder.

    `generate` uses the decoder alone.
    """

    # The loss is a mean over recordings, not over tokens, so that Trainer has to average it over accumulated parts.
    accepts_loss_kwargs = False

    def __init__(self, config: BranchformerSeq2SeqConfig):
        super().__init__(config)
        self.model = BranchformerModel(config)
        self.ctc_head = nn.Linear(config.hidden_size, config.vocab_size)
        self.decoder = BranchformerDecoder(config)
        self.post_init()

    def get_encoder(self, modality: str | None = None) -> BranchformerModel:
        return self.model

    def get_decoder(self) -> BranchformerDecoder:
        return self.decoder

    def generate(
        self,
        *args,
        cache: EncoderDecoderCache | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        **kwargs,
    ):
        """Write texts, as `GenerationMixin.generate`, which takes the cache under one of the names alone."""
        if (cache := given_cache(cache, past_key_values)) is not None:
            kwargs[CACHE_NAME] = cache
        parent: Any = super()  # its type asks for attributes that no model of transformers has
        return parent.generate(*args, **kwargs)

    @can_return_tuple
    def forward(
        self,
        input_features: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        encoder_outputs: BranchformerOutput | BaseModelOutput | None = None,
        cache: EncoderDecoderCache | None = None,
        use_cache: bool | None = None,
        labels: torch.Tensor | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> HybridOutput:
        """Recognise speech.

        Args:
            input_features, attention_mask: as in `BranchformerModel.forward`.
            decoder_input_ids, decoder_attention_mask: (batch, tokens), the start token and the text, and 0 for
                padding; made of the labels by default.
            encoder_outputs: of an earlier call, in place of input_features.
            cache, past_key_values: the cache of an earlier call, under either name; decoder_input_ids are then the
                tokens that follow its text, and decoder_attention_mask is for both.
            use_cache: whether to keep what a call for the tokens that follow need not compute again.
            labels: (batch, tokens), without start and end, padded at the end with -100. Both losses are summed over a
                text and averaged over the batch.
        """
        if encoder_outputs is None:
            encoder_outputs = self.model(input_features, attention_mask, return_dict=True, **kwargs)
        frames = encoder_outputs.last_hidden_state
        frame_mask = None if attention_mask is None else self.model.frame_mask(attention_mask)
        targets = None
        if labels is not None:
            check_labels(labels, self.config.vocab_size, frames.shape[0])
            inputs, targets = self.shifted(labels)
            if decoder_input_ids is None:
                decoder_input_ids, decoder_attention_mask = inputs, targets >= 0
            elif decoder_input_ids.shape != targets.shape:
                raise ValueError(
                    f"beside labels {tuple(labels.shape)}, decoder_input_ids must be {tuple(targets.shape)}, with the "
                    f"start token before them, got {tuple(decoder_input_ids.shape)}; left out, they are made of labels"
                )
        if decoder_input_ids is None:
            raise ValueError(
                "the decoder needs labels or decoder_input_ids; generate() writes a text from speech alone"
            )
        cache = given_cache(cache, past_key_values)
        if use_cache and cache is None:
            cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        token_mask = None if decoder_attention_mask is None else decoder_attention_mask > 0
        options = {**kwargs, "return_dict": True}  # of the decoder; the own output is made a tuple by the decorator
        decoded = self.decoder(decoder_input_ids, frames, token_mask, frame_mask, cache, **options)
        output = HybridOutput(
            logits=self.decoder.head(decoded.last_hidden_state),
            decoder_hidden_states=decoded.hidden_states,
            decoder_attentions=decoded.attentions,
            cross_attentions=decoded.cross_attentions,
            encoder_last_hidden_state=frames,
            encoder_hidden_states=encoder_outputs.hidden_states,
            encoder_attentions=encoder_outputs.attentions,
            **{CACHE_NAME: cache},
        )
        if labels is not None:
            output.ctc_logits = self.ctc_head(frames)
            own = ctc_loss(output.ctc_logits, frame_mask, labels, self.config.pad_token_id)
            decoder_loss = smoothed_divergence(output.logits, targets, self.config.label_smoothing)
            output.ctc_loss, output.decoder_loss = own, decoder_loss
            output.loss = decoder_loss.lerp(own, self.config.ctc_weight)
        return output

    def shifted(self, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Make the decoder's inputs and targets from labels (batch, tokens).

        Returns:
            Inputs: the start token, then the labels, padded with the end token. Targets: the labels, then the end
            token, padded with -100. Both (batch, tokens + 1).
        """
        end = self.config.eos_token_id
        targets = nn.functional.pad(labels, (0, 1), value=PADDING)
        inputs = nn.functional.pad(labels, (1, 0), value=end)
        is_end = nn.functional.pad(labels >= 0, (1, 0), value=True) & (targets < 0)
        return inputs.masked_fill(inputs < 0, end), targets.masked_fill(is_end, end).clamp(min=PADDING)


__all__ = ["BranchformerDecoder", "BranchformerForSpeechSeq2Seq"]
