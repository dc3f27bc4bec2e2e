"""Configuration of the Tokens-to-Token ViT of yitu-opensource/T2T-ViT, and of LocalViT's variant."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from ...configuration import LocalityConfig, VitsBackboneConfig


@strict
class T2TConfig(LocalityConfig, VitsBackboneConfig):
    """Configuration of T2T-ViT; the defaults are T2T-ViT-7.

    Args:
        image_size: (height, width), or one number for both, in pixels, of the position table. Other sizes work too,
            with a resized table.
        token_layer: attention of the two layers between the soft splits: "performer", of linear cost in the number of
            tokens, or "transformer".
        token_size: channels of the layers between the soft splits.
        token_dropout_prob: dropout rate of these layers with "performer".
        attention_scale: factor on the scores of the layers after the soft splits; None for 1/sqrt(head_dim). The
            released T2T-ViT models have 1/sqrt(hidden_size).
        drop_path_rate: stochastic depth, rising linearly from 0 over the layers.
        feed_forward, locality_act, depthwise_convolution, channel_attention: second half of a layer, see
            `LocalityConfig`; the layers between the soft splits have no channel attention.
        squeeze_size: channels between the two layers of squeeze-and-excitation.
        apply_layernorm: whether the backbone's feature maps pass through the final norm.
        reshape_hidden_states: whether the backbone returns feature maps (batch, channels, rows, columns); otherwise
            sequences (batch, 1 + patches, channels), the class token first, as DPT and Depth Anything need.
    """

    model_type = "hf_vits_t2t"
    size_fields = ("image_size", "num_channels", "token_size", "hidden_size", "num_hidden_layers")
    size_fields += ("num_attention_heads", "intermediate_size", "squeeze_size", "attention_scale", "layer_norm_eps")
    rate_fields = ("hidden_dropout_prob", "attention_probs_dropout_prob", "token_dropout_prob", "drop_path_rate")

    image_size: int | list[int] | tuple[int, int] = 224
    num_channels: int = 3
    token_layer: Literal["performer", "transformer"] = "performer"
    token_size: int = 64
    token_dropout_prob: float | int = 0.1
    num_hidden_layers: int = 7
    hidden_size: int = 256
    num_attention_heads: int = 4
    intermediate_size: int = 512
    attention_scale: float | None = None
    squeeze_size: int = 4
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-5
    qkv_bias: bool = False
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    drop_path_rate: float | int = 0.1
    apply_layernorm: bool = True
    reshape_hidden_states: bool = True
    _out_features: list[str] | None = None
    _out_indices: list[int] | None = None

    layer_scale_init_value = None  # no field: none of these models has layer scale

    @property
    def num_prefix_tokens(self) -> int:
        return 1

    def check(self) -> None:
        super().check()
        self.check_heads()
        if self.token_size % 2:
            raise ValueError(f"the performer has half as many features as channels: token_size={self.token_size}")


__all__ = ["T2TConfig"]
