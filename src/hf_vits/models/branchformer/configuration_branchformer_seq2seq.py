"""Configuration of ESPnet's hybrid speech recognition models: Branchformer with CTC and a transformer decoder."""

from huggingface_hub.dataclasses import strict

from .configuration_branchformer import BranchformerConfig


@strict
class BranchformerSeq2SeqConfig(BranchformerConfig):
    """Configuration of a hybrid of CTC and attention; the defaults are the model for AISHELL.

    Args:
        decoder_layers, decoder_attention_heads, decoder_ffn_dim: sizes of the decoder; its `hidden_size` is the
            encoder's.
        decoder_dropout: dropout rate after embeddings and attention, and inside and after the MLP.
        decoder_attention_dropout: dropout rate on the probabilities of self-attention and cross-attention.
        ctc_weight: weight of the CTC loss, from 0 to 1; the decoder's loss has weight 1 - ctc_weight.
        label_smoothing: probability that is spread evenly over all tokens but the right one.
        eos_token_id: start and end token of every text; None for the last token of the vocabulary.
    """

    model_type = "hf_vits_branchformer_seq2seq"
    size_fields = (*BranchformerConfig.size_fields, "decoder_layers", "decoder_attention_heads", "decoder_ffn_dim")
    rate_fields = (*BranchformerConfig.rate_fields, "decoder_dropout", "decoder_attention_dropout", "label_smoothing")

    decoder_layers: int = 6
    decoder_attention_heads: int = 4
    decoder_ffn_dim: int = 2048
    decoder_dropout: float | int = 0.1
    decoder_attention_dropout: float | int = 0.0
    ctc_weight: float | int = 0.3
    label_smoothing: float | int = 0.1
    eos_token_id: int | None = None
    is_encoder_decoder: bool = True

    def __post_init__(self, **kwargs):
        if self.eos_token_id is None:
            self.eos_token_id = self.vocab_size - 1
        super().__post_init__(**kwargs)
        self.bos_token_id = self.decoder_start_token_id = self.eos_token_id

    def check(self) -> None:
        super().check()
        if self.hidden_size % self.decoder_attention_heads:
            raise ValueError(
                f"hidden_size must be a multiple of decoder_attention_heads, got hidden_size={self.hidden_size} and "
                f"decoder_attention_heads={self.decoder_attention_heads}"
            )
        if not 0 <= self.ctc_weight <= 1:
            raise ValueError(f"ctc_weight must lie in [0, 1], got {self.ctc_weight}")
        if self.eos_token_id is None or not 0 <= self.eos_token_id < self.vocab_size:
            raise ValueError(
                f"eos_token_id must lie in [0, vocab_size={self.vocab_size}), got eos_token_id={self.eos_token_id}"
            )


__all__ = ["BranchformerSeq2SeqConfig"]
