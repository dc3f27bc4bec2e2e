"""Configuration of Early-conv ViT (srvCodes/continual_learning_with_vit)."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from ...configuration import VitsBackboneConfig


@strict
class EarlyConvViTConfig(VitsBackboneConfig):
    """Configuration of Early-conv ViT; the defaults are the published model for images of 32 pixels.

    Args:
        image_size: side in pixels of the images that the model is made for. Other sizes work as long as their tokens
            have positions.
        stem_hidden_sizes: channels after each 3x3 convolution of stride 2; a 1x1 convolution to hidden_size follows.
        head_dim: channels of a head; all heads together need not have hidden_size channels.
        num_positions: rows of the position table. The first is for the class token, the next ones are for the tokens
            in row-major order, whatever the size of the map. The original's has one more than the stem has channels.
        pooling: input of the classifier: the class "token", or the "mean" of all tokens, class token included.
        apply_layernorm: always False: the model has no final norm.
        reshape_hidden_states: whether the backbone returns feature maps (batch, channels, rows, columns); otherwise
            sequences (batch, 1 + patches, channels), the class token first, as DPT and Depth Anything need.
    """

    model_type = "hf_vits_early_conv_vit"
    size_fields = ("image_size", "num_channels", "hidden_size", "num_hidden_layers", "num_attention_heads")
    size_fields += ("intermediate_size", "layer_norm_eps", "head_dim", "num_positions", "stem_hidden_sizes")
    rate_fields = ("hidden_dropout_prob", "attention_probs_dropout_prob", "embedding_dropout_prob")

    image_size: int | list[int] | tuple[int, int] = 32
    num_channels: int = 3
    stem_hidden_sizes: list[int] | tuple[int, ...] = (24, 48, 96, 196)
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    head_dim: int = 64
    intermediate_size: int = 2048
    num_positions: int = 197
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-5
    qkv_bias: bool = False
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    embedding_dropout_prob: float | int = 0.0
    pooling: Literal["token", "mean"] = "token"
    apply_layernorm: Literal[False] = False
    reshape_hidden_states: bool = True
    _out_features: list[str] | None = None
    _out_indices: list[int] | None = None

    layer_scale_init_value = None  # no field: the model has no layer scale

    @property
    def num_prefix_tokens(self) -> int:
        return 1

    def check(self) -> None:
        super().check()
        if not self.stem_hidden_sizes:
            raise ValueError("stem_hidden_sizes must name the channels of at least one convolution, got none")


__all__ = ["EarlyConvViTConfig"]
