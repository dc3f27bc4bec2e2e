"""Configuration of the convolutional networks of differentiable patch selection."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from ...configuration import VitsConfig


@strict
class PatchCnnConfig(VitsConfig):
    """Configuration of the convolutional networks of ptopk_patch_selection; the defaults are its traffic sign network.

    Args:
        image_size: (height, width) or side in pixels; "flat" takes no other size.
        network: "ats", pre-activation blocks after Attention Sampling (arXiv 1905.03711); "resnet", a ResNet v1; or
            "flat", one convolution whose whole feature map passes through a linear layer.
        hidden_sizes: channels of the first convolution and of each following block ("ats"), or of each stage before
            the bottleneck's expansion ("resnet"), or of the convolution ("flat").
        strides: of the first convolution and of the blocks ("ats").
        depths: blocks of each stage ("resnet").
        layer_type: blocks of "resnet"; a "bottleneck" has four times the channels of its stage.
        small_inputs: whether "resnet" begins with a 3x3 convolution of stride 1, without max-pooling.
        projection_size: channels of the linear layer of "flat".
        append_position: whether two channels with each pixel's row and column, in [0, 1], follow the image's.
    """

    model_type = "hf_vits_patch_cnn"
    size_fields = ("image_size", "num_channels", "hidden_sizes", "strides", "depths", "projection_size")

    image_size: int | list[int] | tuple[int, int] = (960, 1280)
    num_channels: int = 3
    network: Literal["ats", "resnet", "flat"] = "ats"
    hidden_sizes: list[int] | tuple[int, ...] = (32, 32, 32, 32)
    strides: list[int] | tuple[int, ...] = (1, 2, 2, 2)
    depths: list[int] | tuple[int, ...] = (2, 2, 2, 2)
    layer_type: Literal["basic", "bottleneck"] = "basic"
    small_inputs: bool = False
    projection_size: int = 128
    append_position: bool = False

    @property
    def expansion(self) -> int:
        """Channels of a block's output over those of its stage."""
        return 4 if self.network == "resnet" and self.layer_type == "bottleneck" else 1

    @property
    def hidden_size(self) -> int:
        """Channels of the features."""
        return self.projection_size if self.network == "flat" else self.hidden_sizes[-1] * self.expansion

    @property
    def num_hidden_layers(self) -> int:
        """Number of blocks."""
        return {"ats": len(self.hidden_sizes) - 1, "resnet": sum(self.depths), "flat": 1}[self.network]

    def check(self) -> None:
        super().check()
        other = {"ats": "strides", "resnet": "depths"}.get(self.network)
        if not self.hidden_sizes or (other and len(getattr(self, other)) != len(self.hidden_sizes)):
            raise ValueError(
                f"hidden_sizes needs at least one value{f', and {other} as many' if other else ''}, got "
                f"hidden_sizes={self.hidden_sizes}{f' and {other}={getattr(self, other)}' if other else ''}"
            )


__all__ = ["PatchCnnConfig"]
