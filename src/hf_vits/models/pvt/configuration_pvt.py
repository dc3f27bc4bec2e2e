"""Configuration of the Pyramid Vision Transformer of whai362/PVT, first version, and of LocalViT on it."""

from huggingface_hub.dataclasses import strict

from ...configuration import LocalityConfig, VitsHierarchicalConfig


@strict
class PvtConfig(LocalityConfig, VitsHierarchicalConfig):
    """Configuration of PVT; the defaults are PVT-Tiny.

    Args:
        image_size: (height, width), or one number for both, in pixels, of the position tables. Other sizes work too,
            with resized tables.
        depths, hidden_sizes, num_attention_heads, mlp_ratios: layers, channels, heads and intermediate channels of the
            MLP divided by `hidden_sizes`, per stage.
        patch_sizes: side of each stage's patches, in pixels or in cells of the previous feature map.
        sequence_reduction_ratios: per stage, the factor by which height and width of the feature map are reduced for
            keys and values; 1 in the last stage, which has the class token.
        embedding_norm_eps: epsilon of the norms after patch embeddings and reductions; `layer_norm_eps` is for all
            other norms.
        drop_path_rate: stochastic depth, rising linearly from 0 over all layers.
        feed_forward, locality_act, depthwise_convolution, channel_attention: second half of a layer, see
            `LocalityConfig`.
        squeeze_sizes: channels between the two layers of squeeze-and-excitation, per stage.
    """

    model_type = "hf_vits_pvt"
    stage_fields = ("depths", "hidden_sizes", "num_attention_heads", "mlp_ratios", "patch_sizes")
    stage_fields += ("sequence_reduction_ratios", "squeeze_sizes")
    size_fields = ("image_size", "num_channels", "layer_norm_eps", "embedding_norm_eps", *stage_fields)
    rate_fields = ("hidden_dropout_prob", "attention_probs_dropout_prob", "drop_path_rate")

    image_size: int | list[int] | tuple[int, int] = 224
    num_channels: int = 3
    depths: list[int] | tuple[int, ...] = (2, 2, 2, 2)
    hidden_sizes: list[int] | tuple[int, ...] = (64, 128, 320, 512)
    num_attention_heads: list[int] | tuple[int, ...] = (1, 2, 5, 8)
    mlp_ratios: list[float | int] | tuple[float | int, ...] = (8, 8, 4, 4)
    patch_sizes: list[int] | tuple[int, ...] = (4, 2, 2, 2)
    sequence_reduction_ratios: list[int] | tuple[int, ...] = (8, 4, 2, 1)
    squeeze_sizes: list[int] | tuple[int, ...] = (8, 8, 4, 4)
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-6
    embedding_norm_eps: float = 1e-5
    qkv_bias: bool = True
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    drop_path_rate: float | int = 0.1
    _out_features: list[str] | None = None
    _out_indices: list[int] | None = None

    @property
    def num_prefix_tokens(self) -> int:
        return 1

    def check(self) -> None:
        super().check()
        self.check_heads()
        if self.sequence_reduction_ratios[-1] != 1:
            raise ValueError(
                "the last stage has a class token and so cannot reduce its keys and values: the last of "
                f"sequence_reduction_ratios must be 1, got {self.sequence_reduction_ratios}"
            )


__all__ = ["PvtConfig"]
