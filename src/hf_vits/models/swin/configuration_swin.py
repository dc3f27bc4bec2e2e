"""Configuration of the Swin Transformer of microsoft/Swin-Transformer, first version, and of LocalViT on it."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from ...configuration import LocalityConfig, VitsHierarchicalConfig


@strict
class SwinConfig(LocalityConfig, VitsHierarchicalConfig):
    """Configuration of Swin; the defaults are Swin-T.

    Args:
        image_size: (height, width), or one number for both, in pixels. If the feature map of a stage for this size is
            smaller than a window, the stage's windows are smaller. Other sizes work too, padded to whole windows.
        patch_size: side of the patches in pixels.
        depths, hidden_sizes, num_attention_heads: layers, channels and heads per stage. Every second layer shifts its
            windows by half a window.
        window_size: side of the windows in tokens.
        shift_like: which feature maps are shifted. "input": those of the input that are larger than a window.
            "image_size": all feature maps of the stages where an image of `image_size` has a feature map larger than a
            window, as in iBOT and EsViT.
        use_absolute_embeddings: whether a learned position table is added to the patch embeddings; it is resized
            bicubically for other input sizes.
        use_patch_norm: whether the patch embeddings pass through a layer norm.
        use_mask_token: whether there is a mask token, which replaces masked patches.
        mlp_ratio: intermediate channels of the MLP divided by `hidden_sizes`.
        drop_path_rate: stochastic depth, rising linearly from 0 over all layers.
        feed_forward, locality_act, depthwise_convolution, channel_attention: second half of a layer, see
            `LocalityConfig`.
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
    use_absolute_embeddings: bool = False
    use_patch_norm: bool = True
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
