"""Branchformer with a transformer decoder beside CTC (Watanabe et al., "Hybrid CTC/Attention Architecture", 2017).

espnet/espnet (espnet2/asr/espnet_model.py, espnet2/asr/decoder/transformer_decoder.py).
"""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import initialization as init
from transformers.generation import GenerationMixin
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, can_return_tuple

from ...layers.attention import Attention, SelfAttention, attend, padding_bias
from ...layers.mlp import MLP
from ...layers.sequence_losses import PADDING, check_labels, ctc_loss, smoothed_divergence
from ...layers.sinusoids import Sinusoids
from .configuration_branchformer_seq2seq import BranchformerSeq2SeqConfig
from .modeling_branchformer import BranchformerModel, BranchformerOutput, BranchformerPreTrainedModel


@dataclass
class HybridOutput(Seq2SeqLMOutput):
    """Output of `BranchformerForSpeechSeq2Seq`; logits (batch, tokens, vocab_size) are the decoder's.

    ctc_logits: (batch, frames after subsampling, vocab_size).
    ctc_loss, decoder_loss: the two that `loss` is made of.
    """

    ctc_logits: torch.FloatTensor | None = None
    ctc_loss: torch.FloatTensor | None = None
    decoder_loss: torch.FloatTensor | None = None


class CrossAttention(Attention):
    """Attention of the tokens of a text to the frames of speech."""

    def __init__(self, config: BranchformerSeq2SeqConfig):
        hidden_size, self_heads = config.hidden_size, config.decoder_attention_heads
        super().__init__(config, (hidden_size // self_heads) ** -0.5, config.decoder_attention_dropout)
        self.num_heads = self_heads
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key_value = nn.Linear(hidden_size, 2 * hidden_size)
        self.projection = nn.Linear(hidden_size, hidden_size)

    def forward(
        self, tokens: torch.Tensor, frames: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(batch, tokens, hidden_size) to the same shape, and the probabilities where the implementation has them.

        Args:
            frames: (batch, frames, hidden_size).
            attention_mask: additive bias that broadcasts to (batch, heads, tokens, frames), or None.
        """
        query = self.query(tokens).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        key, value = self.key_value(frames).unflatten(-1, (2, self.num_heads, -1)).unbind(2)
        attended, probabilities = attend(
            self, query, key.transpose(1, 2), value.transpose(1, 2), attention_mask, **kwargs
        )
        return self.projection(attended.flatten(2)), probabilities


class BranchformerDecoderLayer(GradientCheckpointingLayer):
    """Attention to the text so far, attention to the speech, MLP; each after a norm and beside a shortcut."""

    def __init__(self, config: BranchformerSeq2SeqConfig):
        super().__init__()
        size, eps = config.hidden_size, config.layer_norm_eps
        self.attention_norm = nn.LayerNorm(size, eps=eps)
        self.attention = SelfAttention(
            config, size, config.decoder_attention_heads, attention_dropout=config.decoder_attention_dropout
        )
        self.cross_attention_norm = nn.LayerNorm(size, eps=eps)
        self.cross_attention = CrossAttention(config)
        self.mlp_norm = nn.LayerNorm(size, eps=eps)
        self.mlp = MLP(size, config.decoder_ffn_dim, "relu", config.decoder_dropout)
        self.dropout = nn.Dropout(config.decoder_dropout)

    def forward(
        self,
        tokens: torch.Tensor,
        frames: torch.Tensor,
        causal_bias: torch.Tensor,
        frame_bias: torch.Tensor | None,
        **kwargs,
    ) -> torch.Tensor:
        """(batch, tokens, hidden_size) to the same shape; the biases are of attention to tokens and to frames."""
        attended, _ = self.attention(self.attention_norm(tokens), attention_mask=causal_bias, **kwargs)
        tokens = tokens + self.dropout(attended)
        attended, _ = self.cross_attention(self.cross_attention_norm(tokens), frames, frame_bias, **kwargs)
        tokens = tokens + self.dropout(attended)
        return tokens + self.mlp(self.mlp_norm(tokens))


class BranchformerDecoder(nn.Module):
    """Logits of the next token after each one of a text."""

    def __init__(self, config: BranchformerSeq2SeqConfig):
        super().__init__()
        self.scale = config.hidden_size**0.5
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.positions = Sinusoids(config.max_source_positions, config.hidden_size)
        self.dropout = nn.Dropout(config.decoder_dropout)
        self.layers = nn.ModuleList(BranchformerDecoderLayer(config) for _ in range(config.decoder_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.head = nn.Linear(config.hidden_size, config.vocab_size)

    def forward(
        self,
        token_ids: torch.Tensor,
        frames: torch.Tensor,
        token_mask: torch.Tensor | None = None,
        frame_mask: torch.Tensor | None = None,
        **kwargs,
    ) -> torch.Tensor:
        """(batch, tokens), after the start token, to (batch, tokens, vocab_size).

        Args:
            frames: (batch, frames, hidden_size), the encoder's.
            token_mask, frame_mask: boolean (batch, tokens) and (batch, frames), False for padding; None for none.
        """
        length = token_ids.shape[1]
        tokens = self.dropout(self.embeddings(token_ids) * self.scale + self.positions(length))
        causal = torch.ones(1, length, length, dtype=torch.bool, device=tokens.device).tril()
        causal_bias = padding_bias(causal if token_mask is None else causal & token_mask[:, None], tokens)
        frame_bias = None if frame_mask is None else padding_bias(frame_mask[:, None], tokens)
        for layer in self.layers:
            tokens = layer(tokens, frames, causal_bias, frame_bias, **kwargs)
        return self.head(self.norm(tokens))


class BranchformerForSpeechSeq2Seq(BranchformerPreTrainedModel, GenerationMixin):
    """Hybrid model: CTC on the encoder's frames, and a decoder that writes the text token by token.

    `generate` searches with the decoder alone.
    """

    config_class = BranchformerSeq2SeqConfig

    def __init__(self, config: BranchformerSeq2SeqConfig):
        super().__init__(config)
        self.model = BranchformerModel(config)
        self.ctc_head = nn.Linear(config.hidden_size, config.vocab_size)
        self.decoder = BranchformerDecoder(config)
        self.post_init()

    def get_encoder(self, modality: str | None = None) -> BranchformerModel:
        return self.model

    @torch.no_grad()
    def _init_weights(self, module):
        if isinstance(module, nn.Embedding):
            init.normal_(module.weight)
        else:
            super()._init_weights(module)

    @can_return_tuple
    def forward(
        self,
        input_features: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        encoder_outputs: BranchformerOutput | BaseModelOutput | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> HybridOutput:
        """Recognise speech.

        Args:
            input_features, attention_mask: as in `BranchformerModel.forward`.
            decoder_input_ids, decoder_attention_mask: (batch, tokens), the start token and the text, and 0 for
                padding; made of the labels by default.
            encoder_outputs: of an earlier call, in place of input_features.
            labels: (batch, tokens), without start and end, padded at the end with -100. Both losses are summed over a
                text and averaged over the batch.
        """
        if encoder_outputs is None:
            encoder_outputs = self.model(input_features, attention_mask, **kwargs)
        frames = encoder_outputs.last_hidden_state
        frame_mask = None if attention_mask is None else self.model.frame_mask(attention_mask)
        targets = None
        if labels is not None:
            check_labels(labels, self.config.vocab_size)
            inputs, targets = self.shifted(labels)
            if decoder_input_ids is None:
                decoder_input_ids, decoder_attention_mask = inputs, targets >= 0
        if decoder_input_ids is None:
            raise ValueError(
                "the decoder needs labels or decoder_input_ids; generate() writes a text from speech alone"
            )
        token_mask = None if decoder_attention_mask is None else decoder_attention_mask > 0
        output = HybridOutput(
            logits=self.decoder(decoder_input_ids, frames, token_mask, frame_mask, **kwargs),
            encoder_last_hidden_state=frames,
            encoder_hidden_states=encoder_outputs.hidden_states,
            encoder_attentions=encoder_outputs.attentions,
        )
        if labels is not None:
            output.ctc_logits = self.ctc_head(frames)
            output.ctc_loss = ctc_loss(output.ctc_logits, frame_mask, labels, self.config.pad_token_id)
            output.decoder_loss = smoothed_divergence(output.logits, targets, self.config.label_smoothing)
            output.loss = output.decoder_loss.lerp(output.ctc_loss, self.config.ctc_weight)
        return output

    def shifted(self, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Labels (batch, tokens) with the start before them, padded with the end; and followed by the end.

        Returns:
            What the decoder reads and what it is to say, both (batch, tokens + 1).
        """
        end = self.config.eos_token_id
        targets = nn.functional.pad(labels, (0, 1), value=PADDING)
        inputs = nn.functional.pad(labels, (1, 0), value=end)
        is_end = nn.functional.pad(labels >= 0, (1, 0), value=True) & (targets < 0)
        return inputs.masked_fill(inputs < 0, end), targets.masked_fill(is_end, end).clamp(min=PADDING)

    def prepare_inputs_for_generation(
        self, input_ids: torch.Tensor, attention_mask=None, encoder_outputs=None, **kwargs
    ):
        return {"decoder_input_ids": input_ids, "attention_mask": attention_mask, "encoder_outputs": encoder_outputs}


__all__ = ["BranchformerDecoder", "BranchformerForSpeechSeq2Seq"]
