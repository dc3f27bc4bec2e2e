"""Configuration of VATT's text encoders (google-research/vatt, modeling/backbones: text/t5.py, unified/uvatt.py)."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from .configuration_vatt_encoder import VattEncoderConfig


@strict
class VattTextConfig(VattEncoderConfig):
    """Configuration of a text encoder; the defaults are the paper's Small size, which is modality-specific.

    The fields of `VattEncoderConfig`, of which `kept_token_fraction` must be 1, and:

    Args:
        vocab_size: number of words.
        embedding_size: channels of the word embeddings.
        train_word_embeddings: whether the word embeddings are trained; the original keeps word2vec's.
        pad_token_id: word that is no part of the text, unless an attention mask says otherwise.
        position_embedding_type: "relative": an encoder like T5's, with biases on attention scores that depend on the
            distance, scores that are not scaled, and RMS norms; the aggregation token is a word. "absolute": the
            encoder of video and audio, with a table of positions, as where one encoder is shared by all modalities.
        max_position_embeddings: words of a text; the table has this length and is resized to other inputs.
        relative_attention_num_buckets, relative_attention_max_distance: number of biases of a head, and the distance
            in words from which on all distances share one.
    """

    model_type = "hf_vits_vatt_text"
    size_fields = (*VattEncoderConfig.size_fields, "vocab_size", "embedding_size", "max_position_embeddings")
    size_fields += ("relative_attention_num_buckets", "relative_attention_max_distance")

    hidden_size: int = 512
    num_hidden_layers: int = 6
    num_attention_heads: int = 8
    intermediate_size: int = 2048
    use_bias: bool = False
    pre_projection: bool = True
    vocab_size: int = 65_536
    embedding_size: int = 300
    train_word_embeddings: bool = False
    pad_token_id: int | None = 0
    position_embedding_type: Literal["relative", "absolute"] = "relative"
    max_position_embeddings: int = 16
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 64

    @property
    def grid(self) -> tuple[int]:
        """Number of words that the table of positions is for."""
        return (self.max_position_embeddings,)

    def check(self) -> None:
        super().check()
        if not self.pre_projection or self.kept_token_fraction != 1:
            raise ValueError(
                "a text encoder needs pre_projection=True, from embedding_size to hidden_size, and "
                f"kept_token_fraction=1, got pre_projection={self.pre_projection} and "
                f"kept_token_fraction={self.kept_token_fraction}"
            )
        exact = self.relative_attention_num_buckets // 4
        if self.relative_attention_num_buckets % 4 or self.relative_attention_max_distance <= exact:
            raise ValueError(
                "relative_attention_num_buckets must be a multiple of 4, and relative_attention_max_distance larger "
                f"than a quarter of it, got {self.relative_attention_num_buckets} and "
                f"{self.relative_attention_max_distance}"
            )


__all__ = ["VattTextConfig"]
