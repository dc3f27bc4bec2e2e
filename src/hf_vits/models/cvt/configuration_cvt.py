"""Configuration of the Convolutional vision Transformer of microsoft/CvT, and of its variant in microsoft/esvit."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from ...configuration import VitsHierarchicalConfig


@strict
class CvtConfig(VitsHierarchicalConfig):
    """Configuration of CvT; the defaults are CvT-13.

    Args:
        image_size: side of the images that the image processor makes, in pixels; the model does not depend on it.
        depths, hidden_sizes, num_attention_heads: layers, channels and heads per stage.
        patch_sizes, patch_strides, patch_paddings: kernel size, stride and padding of each stage's patch embedding.
        mlp_ratios: intermediate channels of the MLP divided by `hidden_sizes`, per stage.
        hidden_act: activation of the MLP. The original has QuickGELU; transformers' Cvt has the exact "gelu".
        key_value_projection: downsampling of keys and values: a depth-wise "convolution" with batch norm, in which
            case queries have one too, or the "average" of each window.
        key_value_stride: stride of this downsampling.
        projection_kernel_sizes: side of the convolutions, or averages, before queries, keys and values, an odd number
            per stage; None for 3.
        window_size: side of the attention windows in tokens, as in EsViT; None for global attention. With windows, one
            convolution precedes queries, keys and values; `key_value_projection` and `key_value_stride` are not used.
        use_relative_position_bias: whether the attention in windows has a learned bias per head and offset; on a
            feature map smaller than a window, its smaller offsets apply.
        use_class_token: whether the last stage has a class token, which is then pooled instead of the mean; not with
            windows.
        drop_path_rate: stochastic depth, rising linearly from 0 over the layers of the last stage, with 0 in the other
            stages; with windows, over all layers.
    """

    model_type = "hf_vits_cvt"
    size_fields = ("image_size", "num_channels", "depths", "hidden_sizes", "num_attention_heads", "mlp_ratios")
    size_fields += ("patch_sizes", "patch_strides", "key_value_stride", "window_size", "layer_norm_eps")
    stage_fields = ("depths", "hidden_sizes", "num_attention_heads", "mlp_ratios")
    stage_fields += ("patch_sizes", "patch_strides", "patch_paddings")
    rate_fields = ("hidden_dropout_prob", "attention_probs_dropout_prob", "drop_path_rate")

    image_size: int | list[int] | tuple[int, int] = 224
    num_channels: int = 3
    depths: list[int] | tuple[int, ...] = (1, 2, 10)
    hidden_sizes: list[int] | tuple[int, ...] = (64, 192, 384)
    num_attention_heads: list[int] | tuple[int, ...] = (1, 3, 6)
    patch_sizes: list[int] | tuple[int, ...] = (7, 3, 3)
    patch_strides: list[int] | tuple[int, ...] = (4, 2, 2)
    patch_paddings: list[int] | tuple[int, ...] = (2, 1, 1)
    mlp_ratios: list[float | int] | tuple[float | int, ...] = (4, 4, 4)
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    qkv_bias: bool = True
    key_value_projection: Literal["convolution", "average"] = "convolution"
    key_value_stride: int = 2
    projection_kernel_sizes: list[int] | tuple[int, ...] | None = None
    window_size: int | None = None
    use_relative_position_bias: bool = False
    use_class_token: bool = True
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    drop_path_rate: float | int = 0.1
    _out_features: list[str] | None = None
    _out_indices: list[int] | None = None

    @property
    def num_prefix_tokens(self) -> int:
        return int(self.use_class_token)

    @property
    def kernel_sizes(self) -> list[int]:
        """Side of the convolutions before queries, keys and values, per stage."""
        sizes = self.projection_kernel_sizes
        return [3] * len(self.depths) if sizes is None else list(sizes)

    def check(self) -> None:
        super().check()
        self.check_heads()
        if len(self.kernel_sizes) != len(self.depths) or any(size < 1 or size % 2 == 0 for size in self.kernel_sizes):
            raise ValueError(
                "projection_kernel_sizes needs an odd number per stage, so that maps keep their size, got "
                f"{self.projection_kernel_sizes} for depths={self.depths}"
            )
        if self.window_size is not None and self.use_class_token:
            raise ValueError(
                f"a class token is in no window: window_size={self.window_size} needs use_class_token=False"
            )
        if self.window_size is None and self.use_relative_position_bias:
            raise ValueError("relative positions are those in windows: use_relative_position_bias needs a window_size")


__all__ = ["CvtConfig"]
