"""Configuration of the Local-to-Global Transformer."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from ...configuration import VitsHierarchicalConfig


@strict
class LgTransformerConfig(VitsHierarchicalConfig):
    """Configuration of LG-Transformer; the defaults are LG-T, as reconstructed (see the modelling file).

    Args:
        image_size: side of the images that the image processor makes, in pixels; the model does not depend on it.
        depths, hidden_sizes, num_attention_heads: layers, channels and heads per stage.
        patch_size: side of the first stage's patches, in pixels; every later stage merges 2 x 2 tokens.
        window_size: side of the windows in tokens, on the feature map of every path.
        path_strides: per stage, the downsampling factor of each path.
        path_pooling: how a path downsamples: by "average" pooling or by a depth-wise "convolution".
        path_interpolation: how a path upsamples to the stage's grid: "bilinear" or "nearest".
        shift_windows: whether paths of stride 1 shift their windows by half a window in every second layer.
        mlp_ratio: intermediate channels of the MLP divided by `hidden_sizes`.
        drop_path_rate: stochastic depth of the last layer, rising linearly from 0 over all layers.
    """

    model_type = "hf_vits_lg_transformer"
    stage_fields = ("depths", "hidden_sizes", "num_attention_heads", "path_strides")
    size_fields = ("image_size", "num_channels", "depths", "hidden_sizes", "num_attention_heads", "patch_size")
    size_fields += ("window_size", "mlp_ratio", "layer_norm_eps")
    rate_fields = ("hidden_dropout_prob", "attention_probs_dropout_prob", "drop_path_rate")

    image_size: int | list[int] | tuple[int, int] = 224
    num_channels: int = 3
    depths: list[int] | tuple[int, ...] = (2, 2, 6, 2)
    hidden_sizes: list[int] | tuple[int, ...] = (96, 192, 384, 768)
    num_attention_heads: list[int] | tuple[int, ...] = (3, 6, 12, 24)
    patch_size: int = 4
    window_size: int = 7
    path_strides: list[list[int]] | tuple[tuple[int, ...], ...] = ((1, 4, 8), (1, 2, 4), (1, 2), (1,))
    path_pooling: Literal["average", "convolution"] = "average"
    path_interpolation: Literal["bilinear", "nearest"] = "bilinear"
    shift_windows: bool = False
    mlp_ratio: float | int = 4
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-5
    qkv_bias: bool = True
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    drop_path_rate: float | int = 0.2
    _out_features: list[str] | None = None
    _out_indices: list[int] | None = None

    def check(self) -> None:
        super().check()
        self.check_heads()
        if any(not strides or min(strides) < 1 for strides in self.path_strides):
            raise ValueError(
                f"path_strides needs at least one stride per stage, each at least 1, got {self.path_strides}"
            )


__all__ = ["LgTransformerConfig"]
