"""Configuration of the Multiscale Vision Transformers of facebookresearch/mvit, SlowFast and detectron2."""

import math
from typing import Literal

from huggingface_hub.dataclasses import strict

from ...configuration import VitsHierarchicalConfig


@strict
class MvitConfig(VitsHierarchicalConfig):
    """Configuration of MViT, for images and for clips; the defaults are MViTv2-T for images.

    Each stage but the first halves height and width of the feature map; only the patch embedding reduces frames.

    Args:
        image_size: side, or (height, width), of the position tables, in pixels; they are resized to other inputs.
        num_frames: frames of the position tables; None for a model of images.
        patch_size, patch_stride: kernel size and stride of the patch embedding, along (height, width), or for clips
            (frames, height, width). Its padding is half the kernel size.
        depths, hidden_sizes, num_attention_heads: layers, channels and heads per stage.
        mlp_ratio: intermediate channels of the MLP divided by the attention's channels.
        pooling_norm_eps: epsilon of the norms after pooling; 1e-5 in the first release of MViT.
        use_class_token: whether there is a class token, which is then pooled instead of the mean.
        use_mean_pooling: whether the mean of the tokens without the class token is pooled, and then normalised
            (SlowFast, MVIT.USE_MEAN_POOLING). No checkpoint records it.
        position_embedding_type: "relative", decomposed relative positions in every attention score; or "absolute", a
            table added to the tokens, for clips a spatial and a temporal table.
        expand_in_attention: whether channels increase in the attention of a stage's first layer, instead of in the MLP
            of the previous stage's last layer.
        pooling_kernel_size: kernel size of the pooling of queries, keys and values, along the same axes as
            `patch_size`; None for stride + 1. There is no pooling where kernel size and stride are 1.
        qkv_bias: whether the projections to queries, keys and values have a bias.
        pool_first: "heads" or "channels" if tokens are pooled before the projections to queries, keys and values
            (SlowFast, MVIT.POOL_FIRST). The channels are divided among the heads, which share one convolution as usual
            ("heads", MVIT.MODE "conv"), or every channel has its own ("channels", "conv_unshared"). None for
            projections first.
        pool_all_queries, pool_all_keys: whether queries, and keys and values, are pooled even where the stride is 1.
        key_value_stride: stride of keys and values along height and width in the first stage; halved in each further
            stage, to at least 1.
        residual_pooling: whether the pooled query is added to the attention's result.
        window_size: side of the attention windows in tokens of the first stage, halved in each further stage, as in
            detectors; None for global attention. The last layer of every stage after the first stays global, and
            has twice the key_value_stride in stages between the first and the last.
        use_stage_norm: whether a backbone normalises each of its feature maps, as in detectors.
        initializer: initialisation. "mvit": truncated normal weights, zero biases, convolutions as PyTorch;
            "slowfast": convolutions truncated normal too, biases of linear layers and norms 0.02; "detectron2": as
            "mvit", relative positions zero.
        classifier_dropout_prob: dropout rate before the classifier.
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
    use_mean_pooling: bool = False
    position_embedding_type: Literal["relative", "absolute"] = "relative"
    expand_in_attention: bool = True
    pooling_kernel_size: list[int] | tuple[int, ...] | None = (3, 3)
    qkv_bias: bool = True
    pool_first: Literal["heads", "channels"] | None = None
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
        """Channels of each stage's output."""
        sizes = list(self.hidden_sizes)
        return sizes if self.expand_in_attention else [*sizes[1:], sizes[-1]]

    def check(self) -> None:
        super().check()
        self.check_heads()
        self.check_axes()
        self.check_windows()
        if self.pool_first == "heads":
            self.check_pooled_channels()

    def check_axes(self) -> None:
        axes = 2 if self.num_frames is None else 3
        for name in ("patch_size", "patch_stride", "pooling_kernel_size"):
            values = getattr(self, name)
            if values is not None and len(values) != axes:
                axes_of = "(height, width)" if axes == 2 else "(frames, height, width)"
                needed = f"{axes_of} as num_frames={self.num_frames}"
                raise ValueError(f"{name} needs a value for each of {needed}, got {name}={values}")
        for name in ("patch_size", "pooling_kernel_size"):
            if any(size < 1 or size % 2 == 0 for size in getattr(self, name) or ()):
                raise ValueError(
                    f"{name} must be positive and odd, so that maps do not shift, got {name}={getattr(self, name)}"
                )

    def check_pooled_channels(self) -> None:
        stages = range(1, len(self.depths)) if self.expand_in_attention else ()
        for stage in stages:
            width, heads = self.hidden_sizes[stage - 1], self.num_attention_heads[stage]
            if width % heads:
                raise ValueError(
                    f'with pool_first="heads", the {heads} heads of stage {stage + 1} divide the {width} channels of '
                    f"the stage before, which must be a multiple: got hidden_sizes={self.hidden_sizes}, "
                    f"num_attention_heads={self.num_attention_heads}"
                )

    def check_windows(self) -> None:
        if self.window_size is None:
            return
        if self.pool_first is not None:
            raise ValueError(f"window_size={self.window_size} is for projections before pooling: set pool_first=None")
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
