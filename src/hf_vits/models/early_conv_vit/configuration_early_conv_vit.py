"""Configuration of Early-conv ViT."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from ...configuration import VitsBackboneConfig, pair


@strict
class EarlyConvViTConfig(VitsBackboneConfig):
    """Configuration of Early-conv ViT; the defaults are Early_conv_vit at 32 pixels.

    Args:
        image_size: side of the image in pixels. Every size works whose tokens fit in the position table.
        stem_hidden_sizes: channels after each 3x3 convolution of stride 2.
        head_dim: channels of each attention head; the heads together may be wider than the tokens.
        max_position_embeddings: rows of the position table, the class token's included. An image of n tokens reads
            the first n + 1 rows.
        pooling: what the classifier reads: the class "token", or the "mean" of all tokens.
        drop_path_rate: stochastic depth, rising linearly from 0 over the layers; the original has none.
    """

    model_type = "hf_vits_early_conv_vit"
    size_fields = ("image_size", "num_channels", "hidden_size", "num_hidden_layers", "num_attention_heads")
    size_fields += ("intermediate_size", "head_dim", "max_position_embeddings", "layer_norm_eps")
    rate_fields = ("hidden_dropout_prob", "attention_probs_dropout_prob", "drop_path_rate")

    image_size: int | list[int] | tuple[int, int] = 32
    num_channels: int = 3
    stem_hidden_sizes: list[int] | tuple[int, ...] = (24, 48, 96, 196)
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    head_dim: int = 64
    intermediate_size: int = 2048
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-5
    qkv_bias: bool = False
    max_position_embeddings: int = 197
    pooling: Literal["token", "mean"] = "token"
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    layer_scale_init_value: float | int | None = None
    drop_path_rate: float | int = 0.0
    apply_layernorm: bool = False
    _out_features: list[str] | None = None
    _out_indices: list[int] | None = None

    @property
    def num_prefix_tokens(self) -> int:
        return 1

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Return (rows, columns) of the tokens of an image of this size in pixels: each convolution halves, upwards.

        ValueError where they are more than the position table has rows for.
        """
        side = 2 ** len(self.stem_hidden_sizes)
        rows, columns = -(-height // side), -(-width // side)
        if rows * columns + 1 > self.max_position_embeddings:
            raise ValueError(
                f"an image of {height}x{width} pixels gives {rows}x{columns} tokens and the class token, more than "
                f"the max_position_embeddings={self.max_position_embeddings} rows of the position table: take a "
                "smaller image, or build the model with more rows"
            )
        return rows, columns

    def check(self) -> None:
        super().check()
        if not self.stem_hidden_sizes or min(self.stem_hidden_sizes) < 1:
            raise ValueError(
                f"stem_hidden_sizes must be one or more positive numbers, got {list(self.stem_hidden_sizes)}"
            )
        if self.apply_layernorm:
            raise ValueError("apply_layernorm must be False, since Early-conv ViT has no final norm")
        self.grid(*pair(self.image_size))


__all__ = ["EarlyConvViTConfig"]
