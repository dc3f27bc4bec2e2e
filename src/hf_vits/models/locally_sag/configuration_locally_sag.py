"""Configuration of the Locally Shifted Attention transformer of shellysheynin/Locally-SAG-Transformer."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from ...configuration import VitsHierarchicalConfig


@strict
class LocallySagConfig(VitsHierarchicalConfig):
    """Configuration of Locally-SAG; the defaults are the tiny model for ImageNet.

    Args:
        image_size: side of the images, in pixels; the only legal size, since position tables are not resized.
        depths, hidden_sizes, num_attention_heads: layers, channels and heads per stage.
        patch_size, patch_stride, patch_padding: kernel size, stride and padding of the patch embedding of the shifted
            images.
        shift_type: how the image is shifted: "pad" adds 1 to 3 pixels of the opposite side on the left, on top or both
            (10 copies); "roll" rolls the image by up to 2 pixels (18 copies).
        multi_query: whether all heads of a layer share one key and one value head.
        mlp_ratio: intermediate channels of the MLP divided by `hidden_sizes`.
        drop_path_rate: stochastic depth, the same in every layer.
    """

    model_type = "hf_vits_locally_sag"
    size_fields = ("image_size", "num_channels", "depths", "hidden_sizes", "num_attention_heads", "mlp_ratio")
    size_fields += ("patch_size", "patch_stride", "layer_norm_eps")
    rate_fields = ("hidden_dropout_prob", "attention_probs_dropout_prob", "drop_path_rate")

    image_size: int = 224
    num_channels: int = 3
    depths: list[int] | tuple[int, ...] = (2, 4, 4, 4)
    hidden_sizes: list[int] | tuple[int, ...] = (192, 192, 192, 192)
    num_attention_heads: list[int] | tuple[int, ...] = (4, 4, 4, 4)
    patch_size: int = 9
    patch_stride: int = 7
    patch_padding: int = 1
    shift_type: Literal["pad", "roll"] = "pad"
    multi_query: bool = False
    mlp_ratio: float | int = 4.0
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-6
    qkv_bias: bool = True
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    drop_path_rate: float | int = 0.1
    _out_features: list[str] | None = None
    _out_indices: list[int] | None = None

    @property
    def grid_sizes(self) -> list[int]:
        """Side of every stage's feature map, in tokens."""
        sizes = [self.count_patches(self.image_size)]
        for _ in self.depths[1:]:
            sizes.append((sizes[-1] + 1) // 2)
        return sizes

    def count_patches(self, side: int) -> int:
        """Return the number of patches along `side` pixels."""
        return (side + 2 * self.patch_padding - self.patch_size) // self.patch_stride + 1

    def check(self) -> None:
        super().check()
        self.check_heads()
        if self.patch_padding < 0:
            raise ValueError(f"patch_padding must not be negative, got patch_padding={self.patch_padding}")
        if self.count_patches(self.image_size) < 1:
            raise ValueError(
                f"no patch fits into the image: image_size={self.image_size}, patch_size={self.patch_size}, "
                f"patch_padding={self.patch_padding}"
            )
        if self.shift_type == "pad" and self.count_patches(self.image_size) != self.count_patches(self.image_size + 3):
            raise ValueError(
                "an image that shifts make up to 3 pixels longer must have as many patches as before, which "
                f"image_size={self.image_size}, patch_size={self.patch_size}, patch_stride={self.patch_stride} and "
                f"patch_padding={self.patch_padding} do not allow"
            )


__all__ = ["LocallySagConfig"]
