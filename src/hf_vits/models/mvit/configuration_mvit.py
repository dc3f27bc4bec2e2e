"""Configuration of the Multiscale Vision Transformers of facebookresearch/mvit, SlowFast and detectron2."""

import math
from typing import Literal

from huggingface_hub.dataclasses import strict

from ...configuration import VitsHierarchicalConfig


@strict
class MvitConfig(VitsHierarchicalConfig):
    """Configuration of MViT, for images and for clips; the defaults are MViTv2-T for images.

    Each stage but the first begins by halving height and width of the map; frames are halved by the patches alone.

    Args:
        image_size: pixels along a side, or (height, width), that position tables are made for; they are resized to
            other inputs.
        num_frames: frames that tables are made for; None for a model of images.
        patch_size, patch_stride: of the convolution that makes tokens, along (height, width), or for clips
            (frames, height, width). Its padding is half its kernel.
        depths, hidden_sizes, num_attention_heads: layers, channels and heads per stage.
        mlp_ratio: intermediate width over that of the attention.
        pooling_norm_eps: of the norms after pooling; the first release of MViT had 1e-5.
        use_class_token: whether there is a class token, which the classifier reads, rather than the mean.
        position_embedding_type: "relative" adds to every attention score what the query has learned about the offset
            along each axis. "absolute" is a table that is added to the tokens; for clips, one over the map and one
            over time.
        expand_in_attention: whether the first layer of a stage widens the tokens, in its attention, rather than the
            last layer of the stage before, in its MLP.
        pooling_kernel_size: of the convolutions that pool queries, keys and values, along each axis as in
            `patch_size`; None for one more than the stride. Where kernel and stride are 1, nothing is pooled.
        pool_all_queries, pool_all_keys: whether queries, and keys and values, are pooled with a stride of 1 too.
        key_value_stride: along height and width in the first stage; each further stage has half of it, at least 1.
        residual_pooling: whether each query is added to what its attention gives.
        window_size: in tokens of the first stage; each further stage has half of it. Attention then is inside
            windows, but for the last layer of every stage after the first, and the last layer of every stage between
            the first and the last has twice the key_value_stride, as in the detectors. None for none.
        use_stage_norm: whether a backbone normalises each of its maps, as in the detectors.
        initializer: whose initialisation to use. "mvit": truncated normal weights, zero biases, convolutions as
            PyTorch makes them; "slowfast": convolutions truncated normal too, biases of linear layers and norms 0.02;
            "detectron2": as "mvit", relative positions zero.
        classifier_dropout_prob: before the classifier.
        drop_path_rate: stochastic depth of the last layer, rising linearly from 0.
    """

    model_type = "hf_vits_mvit"
    size_fields = ("image_size", "num_frames", "num_channels", "patch_size", "patch_stride", "depths", "hidden_sizes")
    size_fields += ("num_attention_heads", "mlp_ratio", "layer_norm_eps", "pooling_norm_eps", "key_value_stride")
    size_fields += ("window_size",)
    rate_fields = ("classifier_dropout_prob", "drop_path_rate")

    image_size: int | list[int] | tuple[int, int] = 224
    num_frames: int | None = None
    num_channels: int = 3
    patch_size: list[int] | tuple[int, ...] = (7, 7)
    patch_stride: list[int] | tuple[int, ...] = (4, 4)
    depths: list[int] | tuple[int, ...] = (1, 2, 5, 2)
    hidden_sizes: list[int] | tuple[int, ...] = (96, 192, 384, 768)
    num_attention_heads: list[int] | tuple[int, ...] = (1, 2, 4, 8)
    mlp_ratio: float | int = 4
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-6
    pooling_norm_eps: float = 1e-6
    use_class_token: bool = False
    position_embedding_type: Literal["relative", "absolute"] = "relative"
    expand_in_attention: bool = True
    pooling_kernel_size: list[int] | tuple[int, ...] | None = (3, 3)
    pool_all_queries: bool = True
    pool_all_keys: bool = True
    key_value_stride: int = 4
    residual_pooling: bool = True
    window_size: int | None = None
    use_stage_norm: bool = False
    initializer: Literal["mvit", "slowfast", "detectron2"] = "mvit"
    classifier_dropout_prob: float | int = 0.0
    drop_path_rate: float | int = 0.1
    _out_features: list[str] | None = None
    _out_indices: list[int] | None = None

    @property
    def num_prefix_tokens(self) -> int:
        return int(self.use_class_token)

    @property
    def output_sizes(self) -> list[int]:
        """Channels of the map that leaves each stage."""
        sizes = list(self.hidden_sizes)
        return sizes if self.expand_in_attention else [*sizes[1:], sizes[-1]]

    def check(self) -> None:
        super().check()
        self.check_heads()
        self.check_axes()
        self.check_windows()

    def check_axes(self) -> None:
        axes = 2 if self.num_frames is None else 3
        for name in ("patch_size", "patch_stride", "pooling_kernel_size"):
            values = getattr(self, name)
            if values is not None and len(values) != axes:
                needed = "(height, width) as num_frames is None" if axes == 2 else "(frames, height, width) of a clip"
                raise ValueError(f"{name} needs a value for each of {needed}, got {name}={values}")
        for name in ("patch_size", "pooling_kernel_size"):
            if any(size % 2 == 0 for size in getattr(self, name) or ()):
                raise ValueError(f"{name} must be odd, so that maps do not shift, got {name}={getattr(self, name)}")

    def check_windows(self) -> None:
        if self.window_size is None:
            return
        if self.num_frames is not None or self.use_class_token:
            raise ValueError(
                f"window_size={self.window_size} is for images without a class token: set num_frames=None and "
                "use_class_token=False"
            )
        divisor = math.lcm(2 ** (len(self.depths) - 1), self.key_value_stride)
        if self.window_size % divisor:
            raise ValueError(
                f"window_size must be a multiple of {divisor}, so that it can be halved at every stage and divided by "
                f"key_value_stride={self.key_value_stride}, got window_size={self.window_size}"
            )


__all__ = ["MvitConfig"]
