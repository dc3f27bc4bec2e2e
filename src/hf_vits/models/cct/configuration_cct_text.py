"""Configuration of the Compact Transformers of SHI-Labs/Compact-Transformers for text."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from ...configuration import VitsConfig
from .configuration_cct import check_windows


@strict
class CctTextConfig(VitsConfig):
    """Configuration of Transformer-Lite, ViT-Lite, CVT and CCT for text; the defaults are text CCT-2 with kernel 1.

    Transformer-Lite: use_convolution=False and pooling="token". ViT-Lite: a convolution whose stride is its kernel
    size, without activation and max-pooling, and pooling="token". CVT: the same with pooling="sequence". CCT:
    overlapping windows with ReLU and max-pooling, and pooling="sequence".

    Args:
        vocab_size, word_embedding_size: rows and columns of the word table.
        pad_token_id: word that stands for padding; its row of a new word table is zero.
        max_position_embeddings: words of a text that the position table is made for.
        use_convolution: whether tokens are windows of words; without it every word is a token.
        kernel_size, stride, padding: of the convolution, in words.
        conv_act: activation after it, None for none.
        use_max_pool: whether max-pooling follows it; pool_kernel_size, pool_stride and pool_padding are its windows.
        pooling: what the classifier reads: the class "token", or the "sequence" pooled with learned weights.
        position_embedding_type: fixed "sine", continued for longer texts; "learned"; or "none".
        drop_path_rate: stochastic depth, rising linearly to the rate.
    """

    model_type = "hf_vits_cct_text"
    size_fields = ("vocab_size", "word_embedding_size", "max_position_embeddings", "hidden_size")
    size_fields += ("num_hidden_layers", "num_attention_heads", "intermediate_size", "layer_norm_eps")
    size_fields += ("kernel_size", "stride", "pool_kernel_size", "pool_stride")
    rate_fields = ("hidden_dropout_prob", "attention_probs_dropout_prob", "drop_path_rate")

    vocab_size: int = 100000
    word_embedding_size: int = 300
    pad_token_id: int | None = 1
    max_position_embeddings: int = 64
    use_convolution: bool = True
    kernel_size: int = 1
    stride: int = 1
    padding: int = 1
    conv_act: str | None = "relu"
    use_max_pool: bool = True
    pool_kernel_size: int = 2
    pool_stride: int = 2
    pool_padding: int = 1
    hidden_size: int = 128
    num_hidden_layers: int = 2
    num_attention_heads: int = 2
    intermediate_size: int = 128
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-5
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.1
    drop_path_rate: float | int = 0.1
    pooling: Literal["sequence", "token"] = "sequence"
    position_embedding_type: Literal["learned", "sine", "none"] = "sine"

    @property
    def num_prefix_tokens(self) -> int:
        return int(self.pooling == "token")

    def check(self) -> None:
        super().check()
        self.check_heads()
        check_windows(self)
        if not self.use_convolution and self.hidden_size != self.word_embedding_size:
            raise ValueError(
                "use_convolution=False makes every word a token, which needs hidden_size equal to "
                f"word_embedding_size={self.word_embedding_size}, got hidden_size={self.hidden_size}"
            )
        if self.pad_token_id is not None and not 0 <= self.pad_token_id < self.vocab_size:
            raise ValueError(
                f"pad_token_id must lie in [0, vocab_size={self.vocab_size}) or be None, got "
                f"pad_token_id={self.pad_token_id}"
            )


__all__ = ["CctTextConfig"]
