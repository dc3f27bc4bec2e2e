"""Configuration of DeiT, DeiT III and the parallel ViTs of facebookresearch/deit."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from ..vit.configuration_vit import ViTConfig


@strict
class DeiTConfig(ViTConfig):
    """Configuration of a DeiT; the defaults are deit_tiny_patch16_224. The fields of `ViTConfig` apply, and:

    Args:
        distilled: whether a distillation token follows the class token.
        distillation_head: whether the distillation token has a classifier of its own, averaged with the first.
        num_parallel_branches: attention and MLP branches side by side in each layer (arXiv 2203.09795).
        stem: "patch" for plain patches, "hierarchical_mlp" for the hMLP stem of arXiv 2203.09795.
        initializer_range: deviation of the truncated normal of linear layers, tokens and positions.
    """

    model_type = "hf_vits_deit"
    size_fields = (*ViTConfig.size_fields, "num_parallel_branches")

    hidden_act: str = "gelu"
    position_interpolation: Literal["bilinear_aligned", "bilinear", "bicubic"] = "bicubic"
    distilled: bool = False
    distillation_head: bool = True
    num_parallel_branches: int = 1
    stem: Literal["patch", "hierarchical_mlp"] = "patch"
    initializer_range: float = 0.02

    @property
    def num_prefix_tokens(self) -> int:
        return int(self.use_class_token) + int(self.distilled)

    def check(self) -> None:
        super().check()
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


__all__ = ["DeiTConfig"]
