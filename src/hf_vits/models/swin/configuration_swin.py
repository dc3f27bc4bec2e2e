"""Configuration of the Swin Transformer of microsoft/Swin-Transformer, first version, and of LocalViT on it."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from ...configuration import LocalityConfig, VitsHierarchicalConfig


@strict
class SwinConfig(LocalityConfig, VitsHierarchicalConfig):
    """Configuration of Swin; the defaults are Swin-T.

    Args:
        image_size: (height, width), or one number for both, in pixels: a stage whose map of such an image is no larger
            than a window has a smaller window. Other sizes work too, padded where windows do not fill the map.
        patch_size: side of the patches that the image is cut into, in pixels.
        depths, hidden_sizes, num_attention_heads: layers, channels and heads per stage. Layers take turns: windows in
            place, and shifted by half a window.
        window_size: side of the windows in tokens.
        shift_like: which maps are shifted: those of the "input" that are larger than a window, or, in the stages where
            "image_size" has such maps, all, as iBOT and EsViT have it.
        use_mask_token: whether there is a token that replaces masked patches.
        mlp_ratio: intermediate width over channels.
        drop_path_rate: stochastic depth, rising linearly from 0 over all layers.
        feed_forward, locality_act, depthwise_convolution, channel_attention: second half of a layer, as
            `LocalityConfig` says.
        squeeze_sizes: channels between the two layers of squeeze-and-excitation, per stage.
    """

    model_type = "hf_vits_swin"
    stage_fields = ("depths", "hidden_sizes", "num_attention_heads", "squeeze_sizes")
    size_fields = ("image_size", "patch_size", "num_channels", "window_size", "mlp_ratio", "layer_norm_eps")
    size_fields += stage_fields
    rate_fields = ("hidden_dropout_prob", "attention_probs_dropout_prob", "drop_path_rate")

    image_size: int | list[int] | tuple[int, int] = 224
    patch_size: int = 4
    num_channels: int = 3
    depths: list[int] | tuple[int, ...] = (2, 2, 6, 2)
    hidden_sizes: list[int] | tuple[int, ...] = (96, 192, 384, 768)
    num_attention_heads: list[int] | tuple[int, ...] = (3, 6, 12, 24)
    window_size: int = 7
    shift_like: Literal["input", "image_size"] = "input"
    use_mask_token: bool = False
    mlp_ratio: float | int = 4
    squeeze_sizes: list[int] | tuple[int, ...] = (16, 16, 16, 16)
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-5
    qkv_bias: bool = True
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    drop_path_rate: float | int = 0.1
    _out_features: list[str] | None = None
    _out_indices: list[int] | None = None

    def check(self) -> None:
        super().check()
        self.check_heads()


__all__ = ["SwinConfig"]
