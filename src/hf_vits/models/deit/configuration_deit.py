"""Configuration of DeiT, DeiT III and the parallel ViTs of facebookresearch/deit."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from ...configuration import LocalityConfig, pair
from ..vit.configuration_vit import ViTConfig


@strict
class DeiTConfig(LocalityConfig, ViTConfig):
    """Configuration of a DeiT; the defaults are deit_tiny_patch16_224. The fields of `ViTConfig` apply, and:

    Args:
        distilled: whether a distillation token follows the class token.
        distillation_head: whether the distillation token has a separate classifier, averaged with the first.
        num_parallel_branches: number of parallel attentions and MLPs in each layer (arXiv 2203.09795).
        ignore_border: whether pixels beyond the last whole patch are ignored (arXiv 2105.10497: 224 pixels give
            10 x 10 patches of 22); otherwise such sizes are refused.
        stem: "patch" for plain patches, "hierarchical_mlp" for the hMLP stem of arXiv 2203.09795.
        initializer_range: standard deviation of the truncated normal of linear layers, tokens and positions.
        feed_forward, locality_act, depthwise_convolution, channel_attention: second half of a layer, see
            `LocalityConfig`; "locality" has no layer scale.
        use_relative_position_bias, use_shared_relative_position_bias: whether attention scores have BEiT's relative
            position bias, from a table of each layer and from one that all layers share. The model then takes images
            of `image_size` only.
        squeeze_size: channels between the two layers of squeeze-and-excitation.
    """

    model_type = "hf_vits_deit"
    size_fields = (*ViTConfig.size_fields, "num_parallel_branches", "squeeze_size")

    hidden_act: str = "gelu"
    position_interpolation: Literal["bilinear_aligned", "bilinear", "bicubic", "bicubic_offset", "bicubic_scale"] = (
        "bicubic"
    )
    distilled: bool = False
    distillation_head: bool = True
    num_parallel_branches: int = 1
    ignore_border: bool = False
    stem: Literal["patch", "hierarchical_mlp"] = "patch"
    initializer_range: float = 0.02
    squeeze_size: int = 4
    use_relative_position_bias: bool = False
    use_shared_relative_position_bias: bool = False

    @property
    def num_prefix_tokens(self) -> int:
        return int(self.use_class_token) + int(self.distilled)

    def check_patches(self, field: str = "patch_size", cell: int = 1) -> None:
        if not self.ignore_border:
            super().check_patches(field, cell)
        elif any(side < patch for side, patch in zip(pair(self.image_size), pair(self.patch_size), strict=True)):
            raise ValueError(
                f"image_size must be at least patch_size, got image_size={self.image_size} and "
                f"patch_size={self.patch_size}"
            )

    def check(self) -> None:
        super().check()
        if self.ignore_border and self.stem != "patch":
            raise ValueError(f'ignore_border=True is for plain patches: stem must be "patch", got "{self.stem}"')
        if self.distilled and self.pooling != "token":
            raise ValueError(
                f'distilled=True reads class and distillation token: pooling must be "token", got "{self.pooling}"'
            )
        if self.stem_depths is not None:
            raise ValueError(f"DeiT has no ResNet stem: stem_depths must be None, got {self.stem_depths}")
        if self.stem == "hierarchical_mlp" and self.patch_size not in (16, [16, 16], (16, 16)):
            raise ValueError(
                f'stem="hierarchical_mlp" has a stride of 16: patch_size must be 16, got {self.patch_size}'
            )
        if self.use_relative_position_bias or self.use_shared_relative_position_bias:
            needed = {"use_class_token": True, "distilled": False, "num_parallel_branches": 1, "patch_drop_rate": 0}
            needed |= {"feed_forward": "mlp", "stem": "patch"}
            for name, value in needed.items():
                if getattr(self, name) != value:
                    raise ValueError(
                        "use_relative_position_bias and use_shared_relative_position_bias are for all patches and one "
                        f"class token in plain layers: {name} must be {value!r}, got {getattr(self, name)!r}"
                    )
        if self.feed_forward == "locality" and (self.num_parallel_branches > 1 or self.patch_drop_rate):
            raise ValueError(
                'feed_forward="locality" works on the whole grid, one branch after the other: num_parallel_branches '
                f"must be 1 and patch_drop_rate 0, got num_parallel_branches={self.num_parallel_branches} and "
                f"patch_drop_rate={self.patch_drop_rate}"
            )


__all__ = ["DeiTConfig"]
