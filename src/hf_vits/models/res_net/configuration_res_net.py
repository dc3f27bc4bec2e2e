"""Configuration of ResNet as torchvision has it, with a stride for each stage."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from ...configuration import VitsHierarchicalConfig


@strict
class ResNetConfig(VitsHierarchicalConfig):
    """Configuration of ResNet; the defaults are ResNet-18.

    Args:
        image_size: side in pixels of the images that the processor makes; the network takes any size.
        stem_hidden_size: channels of the stem.
        depths, hidden_sizes, strides: layers, output channels and stride of the first layer of each stage. The stem
            has stride 4; strides (1, 2, 1, 1) leave a map at stride 8, as for dense correspondence.
        layer_type: "basic" (two 3x3 convolutions) or "bottleneck" (1x1, 3x3, 1x1, the stride on the 3x3).
        groups: groups of the 3x3 convolution of a bottleneck (ResNeXt).
        width_per_group: channels of a group of the 3x3 convolution in a bottleneck with 256 output channels; wider
            layers have as many times more (ResNeXt, Wide ResNet).
        padding_mode: what surrounds the maps of convolutions: "zeros", or "reflect" as in CRW's networks.
    """

    # Not "resnet": transformers' DETR freezes every weight of a backbone whose type contains that.
    model_type = "hf_vits_res_net"
    stage_fields = ("depths", "hidden_sizes", "strides")
    size_fields = ("image_size", "num_channels", "stem_hidden_size", *stage_fields, "groups", "width_per_group")

    image_size: int | list[int] | tuple[int, int] = 224
    num_channels: int = 3
    stem_hidden_size: int = 64
    depths: list[int] | tuple[int, ...] = (2, 2, 2, 2)
    hidden_sizes: list[int] | tuple[int, ...] = (64, 128, 256, 512)
    strides: list[int] | tuple[int, ...] = (1, 2, 2, 2)
    layer_type: Literal["basic", "bottleneck"] = "basic"
    groups: int = 1
    width_per_group: int = 64
    padding_mode: Literal["zeros", "reflect"] = "zeros"
    hidden_act: str = "relu"
    _out_features: list[str] | None = None
    _out_indices: list[int] | None = None

    @property
    def stem_size(self) -> int:
        return self.stem_hidden_size

    def bottleneck_size(self, stage: int) -> int:
        """Return the channels of the 3x3 convolution of a stage's bottlenecks."""
        return self.hidden_sizes[stage] * self.width_per_group // 256 * self.groups

    def check(self) -> None:
        super().check()
        if self.layer_type == "basic" and (self.groups, self.width_per_group) != (1, 64):
            raise ValueError(
                "groups and width_per_group are of layer_type='bottleneck', got layer_type='basic' with "
                f"groups={self.groups} and width_per_group={self.width_per_group}"
            )
        if self.layer_type == "bottleneck" and not all(map(self.bottleneck_size, range(len(self.depths)))):
            raise ValueError(
                "width_per_group / 256 of hidden_sizes must be at least one channel, got "
                f"width_per_group={self.width_per_group} and hidden_sizes={self.hidden_sizes}"
            )


__all__ = ["ResNetConfig"]
