"""Configuration of the Regional-to-Local vision transformer of IBM/RegionViT."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from ...configuration import VitsHierarchicalConfig


@strict
class RegionViTConfig(VitsHierarchicalConfig):
    """Configuration of RegionViT; the defaults are RegionViT-Ti.

    Args:
        image_size: side of the images that the image processor makes, in pixels; the model does not depend on it.
        depths, hidden_sizes, num_attention_heads: layers, channels and heads per stage; the channels of a stage are a
            multiple of those of the stage before.
        patch_size: side of a local token in the first stage, in pixels.
        window_size: side of a window in local tokens, one for all stages or one per stage; each window has one
            regional token, which embeds a part of the image as large as a window of the first stage. Larger windows of
            a later stage extend beyond its feature map.
        num_conv_layers: number of convolutions of the local patch embedding: three of 3x3 pixels, or one of
            overlapping patches.
        mlp_ratio: intermediate channels of the MLP divided by `hidden_sizes`.
        use_conv_position_embedding: whether each stage has a convolutional position embedding after its first layer,
            for both kinds of tokens (the variants named PEG).
        use_stage_norm: whether each stage's feature map is normalised, for a detector's neck and for the next stage.
        drop_path_rate: stochastic depth of the last layer, rising linearly from 0 over all layers.
    """

    model_type = "hf_vits_regionvit"
    size_fields = ("image_size", "num_channels", "depths", "hidden_sizes", "num_attention_heads", "patch_size")
    size_fields += ("window_size", "mlp_ratio", "layer_norm_eps")
    rate_fields = ("hidden_dropout_prob", "attention_probs_dropout_prob", "drop_path_rate")

    image_size: int | list[int] | tuple[int, int] = 224
    num_channels: int = 3
    depths: list[int] | tuple[int, ...] = (2, 2, 8, 2)
    hidden_sizes: list[int] | tuple[int, ...] = (64, 128, 256, 512)
    num_attention_heads: list[int] | tuple[int, ...] = (2, 4, 8, 16)
    patch_size: int = 4
    window_size: int | list[int] | tuple[int, ...] = 7
    num_conv_layers: Literal[1, 3] = 3
    mlp_ratio: float | int = 4.0
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-6
    qkv_bias: bool = True
    use_conv_position_embedding: bool = False
    use_stage_norm: bool = False
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    drop_path_rate: float | int = 0.1
    _out_features: list[str] | None = None
    _out_indices: list[int] | None = None

    @property
    def window_sizes(self) -> list[int]:
        """Side of the windows of each stage."""
        return [self.window_size] * len(self.depths) if isinstance(self.window_size, int) else list(self.window_size)

    def check(self) -> None:
        super().check()
        self.check_heads()
        if len(self.window_sizes) != len(self.depths):
            raise ValueError(
                f"window_size needs one value, or one per stage, as depths={self.depths} has, got "
                f"window_size={self.window_size}"
            )
        if self.num_conv_layers == 3 and self.patch_size != 4:
            raise ValueError(f"num_conv_layers=3 make patches of 4 pixels, got patch_size={self.patch_size}")
        for before, after in zip(self.hidden_sizes, self.hidden_sizes[1:], strict=False):
            if after % before:
                raise ValueError(
                    "hidden_sizes of a stage must be a multiple of those of the stage before, got "
                    f"hidden_sizes={self.hidden_sizes}"
                )


__all__ = ["RegionViTConfig"]
