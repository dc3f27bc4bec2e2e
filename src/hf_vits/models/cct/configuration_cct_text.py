"""Configuration of the Compact Transformers of SHI-Labs/Compact-Transformers for text."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from .configuration_cct import CctBaseConfig


@strict
class CctTextConfig(CctBaseConfig):
    """Configuration of Transformer-Lite, ViT-Lite, CVT and CCT for text; the defaults are text CCT-2 with kernel 1.

    Transformer-Lite: use_convolution=False and pooling="token". ViT-Lite: a convolution whose stride is its kernel
    size, without activation and max-pooling, and pooling="token". CVT: the same with pooling="sequence". CCT:
    overlapping windows with ReLU and max-pooling, and pooling="sequence".

    The fields of `CctBaseConfig` apply, and:

    Args:
        vocab_size, word_embedding_size: rows and columns of the word embedding table.
        pad_token_id: index of the padding word, whose row of a new table is zero.
        max_position_embeddings: longest text, in words, that the position table is made for.
        use_convolution: whether tokens are windows of words; without it every word is a token.
        position_embedding_type: fixed "sine", continued for longer texts; "learned"; or "none".
    """

    model_type = "hf_vits_cct_text"
    size_fields = (*CctBaseConfig.size_fields, "vocab_size", "word_embedding_size", "max_position_embeddings")

    vocab_size: int = 100000
    word_embedding_size: int = 300
    pad_token_id: int | None = 1
    max_position_embeddings: int = 64
    use_convolution: bool = True
    kernel_size: int = 1
    pool_kernel_size: int = 2
    position_embedding_type: Literal["learned", "sine", "none"] = "sine"

    def check(self) -> None:
        super().check()
        if not self.use_convolution and self.hidden_size != self.word_embedding_size:
            raise ValueError(
                "use_convolution=False makes every word a token, which needs hidden_size equal to "
                f"word_embedding_size={self.word_embedding_size}, got hidden_size={self.hidden_size}"
            )
        if self.use_convolution:
            self.check_length("max_position_embeddings", 1)
        if self.pad_token_id is not None and not 0 <= self.pad_token_id < self.vocab_size:
            raise ValueError(
                f"pad_token_id must lie in [0, vocab_size={self.vocab_size}) or be None, got "
                f"pad_token_id={self.pad_token_id}"
            )


__all__ = ["CctTextConfig"]
