"""Configuration of Transformer in Transformer, of timm's two implementations and LocalViT's variant."""

from huggingface_hub.dataclasses import strict

from ...configuration import LocalityConfig, VitsBackboneConfig


@strict
class TntConfig(LocalityConfig, VitsBackboneConfig):
    """Configuration of TNT; the defaults are LocalViT's TNT-Ti.

    Args:
        image_size: (height, width), or one number for both, in pixels, of the position table. Other sizes work too,
            with a resized table.
        patch_size: side of a patch, which is a token of the outer transformer, in pixels.
        pixel_stride: side of a token of the inner transformer, in pixels.
        isolate_patches: whether patches are cut out before the convolution to pixels, which then sees one patch each,
            and a patch's pixels are normalised together and again after their projection, as in timm's present
            implementation; False for its legacy one.
        hidden_size, num_attention_heads, intermediate_size: sizes of the outer transformer.
        pixel_hidden_size, pixel_num_attention_heads, pixel_intermediate_size: sizes of the inner transformer.
        drop_path_rate: stochastic depth, rising linearly from 0 over the layers.
        feed_forward, locality_act, depthwise_convolution, channel_attention: second half of the outer transformer's
            layers, see `LocalityConfig`.
        squeeze_size: channels between the two layers of squeeze-and-excitation.
        apply_layernorm: whether the backbone's feature maps pass through the final norm.
        reshape_hidden_states: whether the backbone returns feature maps (batch, channels, rows, columns); otherwise
            sequences (batch, 1 + patches, channels), the class token first, as DPT and Depth Anything need.
    """

    model_type = "hf_vits_tnt"
    size_fields = ("image_size", "patch_size", "pixel_stride", "num_channels", "num_hidden_layers", "layer_norm_eps")
    size_fields += ("hidden_size", "num_attention_heads", "intermediate_size", "squeeze_size")
    size_fields += ("pixel_hidden_size", "pixel_num_attention_heads", "pixel_intermediate_size")
    rate_fields = ("hidden_dropout_prob", "attention_probs_dropout_prob", "drop_path_rate")

    image_size: int | list[int] | tuple[int, int] = 224
    patch_size: int = 16
    pixel_stride: int = 4
    isolate_patches: bool = False
    num_channels: int = 3
    num_hidden_layers: int = 12
    hidden_size: int = 192
    num_attention_heads: int = 3
    intermediate_size: int = 768
    pixel_hidden_size: int = 12
    pixel_num_attention_heads: int = 3
    pixel_intermediate_size: int = 48
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

    @property
    def num_prefix_tokens(self) -> int:
        return 1

    def check(self) -> None:
        super().check()
        self.check_heads()
        self.check_patches()
        if self.pixel_hidden_size % self.pixel_num_attention_heads:
            raise ValueError(
                "pixel_hidden_size must be a multiple of pixel_num_attention_heads, got "
                f"pixel_hidden_size={self.pixel_hidden_size} and "
                f"pixel_num_attention_heads={self.pixel_num_attention_heads}"
            )
        if self.patch_size % self.pixel_stride:
            raise ValueError(
                f"patch_size must be a multiple of pixel_stride, got patch_size={self.patch_size} and "
                f"pixel_stride={self.pixel_stride}"
            )


__all__ = ["TntConfig"]
