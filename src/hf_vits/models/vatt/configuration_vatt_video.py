"""Configuration of VATT's video encoder (google-research/vatt, modeling/backbones/video/vitx3d.py)."""

from huggingface_hub.dataclasses import strict

from .configuration_vatt_encoder import VattEncoderConfig


@strict
class VattVideoConfig(VattEncoderConfig):
    """Configuration of a video encoder; the defaults are the Base size of the paper.

    The fields of `VattEncoderConfig`, and:

    Args:
        image_size: (height, width) of a frame, or one number for both, in pixels.
        num_frames: frames of a clip. Position tables have this size and length and are resized to other inputs.
        tubelet_size: (frames, height, width) of a token. What fills no tubelet at the end of an axis is left out.
        classifier_dropout_prob: dropout rate of the classifier's input.
    """

    model_type = "hf_vits_vatt_video"
    size_fields = (*VattEncoderConfig.size_fields, "image_size", "num_frames", "tubelet_size", "num_channels")
    rate_fields = (*VattEncoderConfig.rate_fields, "classifier_dropout_prob")

    image_size: int | list[int] | tuple[int, int] = 224
    num_frames: int = 32
    tubelet_size: list[int] | tuple[int, int, int] = (4, 16, 16)
    num_channels: int = 3
    classifier_dropout_prob: float | int = 0.5

    @property
    def grid(self) -> tuple[int, int, int]:
        """Number of tokens along time, height and width, which is the length of the position tables."""
        height, width = (self.image_size,) * 2 if isinstance(self.image_size, int) else self.image_size
        depth, rows, columns = self.tubelet_size
        return self.num_frames // depth, height // rows, width // columns

    def check(self) -> None:
        super().check()
        if len(self.tubelet_size) != 3:
            raise ValueError(f"tubelet_size must be (frames, height, width), got tubelet_size={self.tubelet_size}")
        if 0 in self.grid:
            raise ValueError(
                "a clip must hold at least one tubelet: num_frames and image_size must not be smaller than "
                f"tubelet_size={self.tubelet_size}, got num_frames={self.num_frames} and image_size={self.image_size}"
            )


__all__ = ["VattVideoConfig"]
