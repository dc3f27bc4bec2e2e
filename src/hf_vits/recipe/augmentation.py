"""The sections of a recipe that say how training images, clips and recordings are augmented."""

from dataclasses import dataclass, field
from typing import Literal

from huggingface_hub.dataclasses import strict

from .fields import check_range, duration, not_negative, positive, share


@strict
@dataclass(kw_only=True)
class RandAugmentRecipe:
    """RandAugment (arXiv 1909.13719).

    ops: how many operations an image passes, drawn at random.
    magnitude: how strong they are, from 0 to 10 (`timm`) or 20 (`scenic`).
    std: standard deviation of the magnitude from image to image.
    policy: whose operations. `timm` bends, moves and recolours, as in timm and SlowFast; `scenic` is for clips: it
        recolours them and cuts squares out, as for ViViT, with magnitudes up to 20 and without std.
    """

    ops: int = positive(default=2)
    magnitude: float = 9.0
    std: float = not_negative(default=0.0)
    policy: Literal["timm", "scenic"] = "timm"

    def validate_magnitude(self):
        highest = {"timm": 10, "scenic": 20}[self.policy]
        if not 0 <= self.magnitude <= highest:
            raise ValueError(
                f"randaugment.magnitude of policy {self.policy} must lie between 0 and {highest}, got {self.magnitude}"
            )
        if self.policy == "scenic" and self.std:
            raise ValueError(f"randaugment.std goes with policy timm, got {self.std} with policy scenic")


@strict
@dataclass(kw_only=True)
class AffineRecipe:
    """A random affine map of each image.

    degrees: largest rotation, to either side.
    translate: largest shift along each axis, as a fraction of the size.
    scale: largest change of size; 0.1 draws factors from 0.9 to 1.1.
    shear: largest shear, in degrees, to either side.
    """

    degrees: float = 0.0
    translate: float = share(default=0.0)
    scale: float = share(default=0.0)
    shear: float = 0.0


@strict
@dataclass(kw_only=True)
class AugmentationRecipe:
    """What happens to training images; evaluation images only pass the image processor.

    crop_scale: share of the area that a random crop, then resized, covers; none: the whole image resized.
    crop_ratio: aspect ratios of that crop.
    crop_clipped: that crop is drawn once and cut to what the image has, not drawn anew until it fits (MAE's probe).
    crop_padding: resize, pad by so many reflected pixels, crop at random; instead of crop_scale.
    short_side: fewest and most pixels that the shorter side is resized to, then crop at random; instead of crop_scale.
    interpolation: of resizing; `random` draws bilinear or bicubic, none is the image processor's.
    flip: probability of a horizontal flip.
    affine, randaugment: see there.
    three_augment: one of grey, solarize, Gaussian blur (DeiT III, arXiv 2204.07118).
    color_jitter: strength of brightness, contrast and saturation changes.
    grey: probability of losing all colour.
    erasing: probability of erasing a rectangle with noise (arXiv 1708.04896).
    mixup, cutmix: alpha of each (arXiv 1710.09412, 1905.04899); 0 turns it off.
    mix_probability: share of batches that are mixed.
    mix_switch: share of mixed batches, if both are on, that CutMix mixes.
    mix_until: when mixing ends; none: never.
    repeats: how many times in a row an epoch takes the same image, differently augmented (arXiv 1902.05509); the
        epoch keeps its length, so it sees fewer images.
    """

    crop_scale: list[float] | None = None
    crop_ratio: list[float] = field(default_factory=lambda: [3 / 4, 4 / 3])
    crop_clipped: bool = False
    crop_padding: int | None = None
    short_side: list[int] | None = None
    interpolation: Literal["bilinear", "bicubic", "random"] | None = None
    flip: float = share(default=0.0)
    affine: AffineRecipe | None = None
    randaugment: RandAugmentRecipe | None = None
    three_augment: bool = False
    color_jitter: float = not_negative(default=0.0)
    grey: float = share(default=0.0)
    erasing: float = share(default=0.0)
    mixup: float = not_negative(default=0.0)
    cutmix: float = not_negative(default=0.0)
    mix_probability: float = share(default=1.0)
    mix_switch: float = share(default=0.5)
    mix_until: str | None = duration(default=None)
    repeats: int = positive(default=1)

    def validate_crop(self):
        crops = [name for name in ("crop_scale", "crop_padding", "short_side") if getattr(self, name) is not None]
        if len(crops) > 1:
            raise ValueError(f"augmentation.{' and augmentation.'.join(crops)} exclude each other")
        if self.crop_clipped and self.crop_scale is None:
            raise ValueError("augmentation.crop_clipped is about augmentation.crop_scale, which is missing")
        if self.short_side is not None:
            check_range("augmentation.short_side", self.short_side)


@strict
@dataclass(kw_only=True)
class VideoRecipe:
    """How many views of a video decide its class once the model is trained.

    Averaged are their probabilities, as in SlowFast, or where the processor's convention is "scenic" their logits.

    During training validation looks at one view: the central clip, its frames cropped at their centre.

    clips: spread evenly over the video.
    crops: of each clip's frames: 1, or 3 along the longer side.
    """

    clips: int = positive(default=1)
    crops: Literal[1, 3] = 1


@strict
@dataclass(kw_only=True)
class SpecAugmentRecipe:
    """SpecAugment (arXiv 1904.08779): warped time, and bands of frequency and time without content.

    time_warp: most frames that a moment moves by; 0: none does.
    frequency_masks, frequency_width: how many bands, and how wide they are at most, in bins.
    time_masks, time_width: how many stretches, and how long they are at most, in frames.
    time_share: how long they are at most as a share of the clip's frames (arXiv 1912.05533); instead of time_width.
    """

    time_warp: int = not_negative(default=0)
    frequency_masks: int = not_negative(default=2)
    frequency_width: int = not_negative(default=27)
    time_masks: int = not_negative(default=2)
    time_width: int | None = not_negative(default=None)
    time_share: float | None = share(default=None)

    def validate_time(self):
        if self.time_masks and (self.time_width is None) == (self.time_share is None):
            raise ValueError("audio.spec_augment: time masks need either time_width or time_share")


@strict
@dataclass(kw_only=True)
class AudioRecipe:
    """What happens to training recordings, in this order; those of evaluation only pass the processor.

    fit_normalization: normalise spectrograms, in evaluation too, by the mean and standard deviation of each bin of the
        training recordings.
    speed: factors of which each recording draws one; 1.1 is faster and higher.
    shift: most seconds that a recording moves to either side; silence fills the gap.
    polarity: probability of turning the waveform upside down.
    reverb: probability of the reverberation of a room.
    reverb_seconds: shortest and longest time in which that reverberation falls by 60 dB.
    gain: probability of another level.
    gain_decibels: smallest and largest change of that level, in dB.
    noise: probability of white noise.
    noise_decibels: lowest and highest signal to noise ratio, in dB.
    spec_augment: of spectrograms, see there.
    mixup: alpha of mixing the batch's recordings (arXiv 1710.09412), as the model gets them, and their classes.
    mix_probability: share of batches that are mixed.
    """

    fit_normalization: bool = False
    speed: list[float] = field(default_factory=list)
    shift: float = not_negative(default=0.0)
    polarity: float = share(default=0.0)
    reverb: float = share(default=0.0)
    reverb_seconds: list[float] = field(default_factory=lambda: [0.05, 0.5])
    gain: float = share(default=0.0)
    gain_decibels: list[float] = field(default_factory=lambda: [-20.0, -1.0])
    noise: float = share(default=0.0)
    noise_decibels: list[float] = field(default_factory=lambda: [5.0, 30.0])
    spec_augment: SpecAugmentRecipe | None = None
    mixup: float = not_negative(default=0.0)
    mix_probability: float = share(default=1.0)

    def validate_ranges(self):
        for name in ("reverb_seconds", "gain_decibels", "noise_decibels"):
            check_range(f"audio.{name}", getattr(self, name))
        if any(not 0.1 <= factor <= 10 for factor in self.speed):
            raise ValueError(f"audio.speed are factors such as 0.9 and 1.1, got {self.speed}")
