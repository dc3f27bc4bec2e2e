"""Configuration of QnA-ViT (moabarar/qna)."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from ...configuration import VitsHierarchicalConfig


@strict
class QnaConfig(VitsHierarchicalConfig):
    """Configuration of QnA-ViT; the defaults are QnA-ViT Tiny.

    Args:
        image_size: side of the images that the image processor makes, in pixels; the model depends on it only for
            `pooling` by learned queries.
        depths: layers per stage, without the downsampling layers between stages.
        window_depths: number of first layers of each stage with window attention; the others have learned queries.
        hidden_sizes: channels per stage.
        num_attention_heads, window_sizes: heads and windows of the window attention, per stage.
        num_query_heads, kernel_sizes: heads and kernels of the attention with learned queries, per stage. The
            downsampling layer after a stage has the stage's kernel and twice its heads.
        num_queries: number of learned queries at every position.
        normalize_queries: whether queries are L2-normalised in every head.
        attention_scale: how the queries' results are weighted, see `hf_vits.models.qna.attention_qna`.
        mlp_ratio: intermediate channels of the MLP divided by `hidden_sizes`.
        stem_type: "patch" for patches of 4x4 pixels, or "resnet" for a convolution and max-pooling.
        shortcut_type: residual connection of the downsampling layers: a 1x1 "convolution" of stride 2, or "average"
            pooling of each window before a 1x1 convolution.
        pooling: "mean" of the last feature map; "learned_query", two learned queries that attend to all of it; or
            "learned_query_and_mean", the sum of both.
        layer_scale_init_value: initial gamma of layer scale on both branches of each layer; None for no layer scale.
        attention_probs_dropout_prob: dropout rate of the window attention's probabilities.
        drop_path_rate: stochastic depth of the last layer, rising linearly from 0.
    """

    model_type = "hf_vits_qna"
    stage_fields = ("depths", "window_depths", "hidden_sizes", "num_attention_heads", "num_query_heads")
    stage_fields += ("window_sizes", "kernel_sizes")
    size_fields = ("image_size", "num_channels", "depths", "hidden_sizes", "num_attention_heads", "num_query_heads")
    size_fields += ("window_sizes", "kernel_sizes", "num_queries", "mlp_ratio", "layer_norm_eps")
    rate_fields = ("attention_probs_dropout_prob", "drop_path_rate")

    image_size: int | list[int] | tuple[int, int] = 224
    num_channels: int = 3
    depths: list[int] | tuple[int, ...] = (2, 3, 6, 2)
    window_depths: list[int] | tuple[int, ...] = (0, 0, 4, 2)
    hidden_sizes: list[int] | tuple[int, ...] = (64, 128, 256, 512)
    num_attention_heads: list[int] | tuple[int, ...] = (2, 4, 8, 16)
    num_query_heads: list[int] | tuple[int, ...] = (8, 16, 32, 64)
    window_sizes: list[int] | tuple[int, ...] = (7, 7, 14, 7)
    kernel_sizes: list[int] | tuple[int, ...] = (3, 3, 3, 3)
    num_queries: int = 2
    normalize_queries: bool = True
    attention_scale: Literal["learned", "learned_from_ones", "learned_per_head", "signed", "mean", "none"] = "learned"
    mlp_ratio: float | int = 4
    hidden_act: str = "gelu_pytorch_tanh"
    layer_norm_eps: float = 1e-6
    stem_type: Literal["patch", "resnet"] = "patch"
    shortcut_type: Literal["convolution", "average"] = "convolution"
    pooling: Literal["mean", "learned_query", "learned_query_and_mean"] = "mean"
    layer_scale_init_value: float | int | None = None
    attention_probs_dropout_prob: float | int = 0.0
    drop_path_rate: float | int = 0.05
    _out_features: list[str] | None = None
    _out_indices: list[int] | None = None

    def check(self) -> None:
        super().check()
        self.check_heads()
        for stage, (depth, window_depth) in enumerate(zip(self.depths, self.window_depths, strict=True)):
            if not 0 <= window_depth <= depth:
                raise ValueError(
                    f"window_depths must lie between 0 and depths, got window_depths={self.window_depths} and "
                    f"depths={self.depths}"
                )
            for width, num_heads in self.query_widths(stage):
                if width % num_heads:
                    raise ValueError(
                        f"num_query_heads must divide a stage's hidden_sizes, and twice the number the next stage's, "
                        f"got hidden_sizes={self.hidden_sizes} and num_query_heads={self.num_query_heads}"
                    )
        if any(size % 2 == 0 for size in self.kernel_sizes):
            raise ValueError(f"kernel_sizes must be odd, to keep the size of feature maps, got {self.kernel_sizes}")

    def query_widths(self, stage: int) -> list[tuple[int, int]]:
        """Return (channels, heads) of the learned queries in a stage and, if any, in the downsampling after it."""
        num_heads = self.num_query_heads[stage]
        widths = [(self.hidden_sizes[stage], num_heads)]
        if stage + 1 < len(self.depths):
            widths.append((self.hidden_sizes[stage + 1], 2 * num_heads))
        return widths


__all__ = ["QnaConfig"]
