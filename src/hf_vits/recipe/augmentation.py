"""Sections of a recipe: augmentation of training images, clips and recordings, and views of videos."""

from dataclasses import dataclass, field
from typing import Literal

from huggingface_hub.dataclasses import strict

from .fields import check_range, duration, fraction, not_negative, positive

# Values beyond these are mistakes, which would take hours or gigabytes.
MOST_OPERATIONS, MOST_PIXELS = 100, 2**14


@strict
@dataclass(kw_only=True)
class RandAugmentRecipe:
    """RandAugment (arXiv 1909.13719): a few random operations on each training image.

    ops: number of operations applied to each image, one after the other.
    magnitude: mean strength of the operations, 0 to 10 with policy timm, 0 to 20 with policy scenic.
    std: standard deviation of the strength, drawn anew for each image; 0: always `magnitude`. Policy timm only.
    policy: set of operations. `timm` changes geometry and colours, as in timm and SlowFast. `scenic` changes colours
        and cuts out squares, as in ViViT; it is for clips.
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
        if self.ops > MOST_OPERATIONS:
            raise ValueError(f"randaugment.ops must be at most {MOST_OPERATIONS}, got {self.ops}")
        if self.policy == "scenic" and self.std:
            raise ValueError(f"randaugment.std goes with policy timm, got {self.std} with policy scenic")


@strict
@dataclass(kw_only=True)
class AffineRecipe:
    """A random affine transform of each training image; what the image does not fill is black.

    degrees: largest rotation in either direction, in degrees.
    translate: largest shift in either direction, as a fraction of the image's width and height.
    scale: largest relative change of size; the factor is drawn between 1 - scale and 1 + scale.
    shear: largest shear along the x axis in either direction, in degrees.
    """

    degrees: float = not_negative(default=0.0)
    translate: float = fraction(default=0.0)
    scale: float = fraction(default=0.0)
    shear: float = not_negative(default=0.0)


@strict
@dataclass(kw_only=True)
class ScaleJitterRecipe:
    """Large-scale jitter of images with objects (arXiv 2012.07177, as in detectron2): a random size, then a square.

    scale: smallest and largest factor; the image is resized to fit into a square of `side` times the factor.
    side: height and width in pixels of the square that is cut out at random; a smaller image is filled up with grey.
    """

    scale: list[float] = field(default_factory=lambda: [0.1, 2.0])
    side: int = positive(default=1024)

    def validate_sizes(self):
        check_range("augmentation.scale_jitter.scale", self.scale, 0.01, 100)
        if self.side > MOST_PIXELS:
            raise ValueError(f"augmentation.scale_jitter.side must be at most {MOST_PIXELS}, got {self.side}")


@strict
@dataclass(kw_only=True)
class AugmentationRecipe:
    """Augmentation of training images and clips; evaluation images only pass the image processor.

    At most one of crop_scale, crop_padding, short_side and scale_jitter is given; with none the image is resized.

    crop_scale: smallest and largest fraction of the image's area that a random crop covers; the crop is resized to the
        model's image size. None: no such crop.
    crop_ratio: smallest and largest aspect ratio, width / height, of the crops of crop_scale.
    crop_clipped: draw the crop of crop_scale once and clip it to the image, as MAE's linear probe does, in place of
        drawing again until it fits.
    crop_padding: pixels of reflected padding on each side of the resized image, before a random crop. None: no such
        crop.
    short_side: smallest and largest length of the image's shorter side after resizing, in pixels, before a random
        crop. None: no such crop.
    crop_class_fraction: largest fraction of the labelled pixels of a crop that one class may cover, for images with
        masks; another crop is drawn up to ten times. None: any.
    interpolation: filter of resizing; `random` draws bilinear or bicubic for each image. None: the image processor's.
    flip: probability of a horizontal flip.
    affine: random affine transform. None: off.
    randaugment: RandAugment. None: off.
    three_augment: apply one of greyscale, solarization and Gaussian blur to each image (DeiT III, arXiv 2204.07118).
    color_jitter: largest relative change of brightness, of contrast and of saturation; 0: off.
    grey: probability of a conversion to greyscale.
    erasing: probability of replacing a rectangle by noise (random erasing, arXiv 1708.04896).
    scale_jitter: large-scale jitter, for objects. None: off.
    copy_paste: probability that objects of another image are pasted onto the image, by their masks, each with a
        probability that is drawn uniformly for the image (simple copy-paste, arXiv 2012.07177).
    mixup: alpha of MixUp (arXiv 1710.09412); 0: off.
    cutmix: alpha of CutMix (arXiv 1905.04899); 0: off.
    mix_probability: probability that a batch is mixed, by MixUp or CutMix.
    cutmix_probability: probability that a mixed batch is mixed by CutMix, where both are on.
    mix_until: point of the run after which batches are no longer mixed, such as "200 epochs". None: the run's end.
    repeats: number of times that an epoch contains each image it draws, augmented differently (repeated augmentation,
        arXiv 1902.05509). The epoch keeps its length, so it contains fewer images.
    """

    crop_scale: list[float] | None = None
    crop_ratio: list[float] = field(default_factory=lambda: [3 / 4, 4 / 3])
    crop_clipped: bool = False
    crop_padding: int | None = not_negative(default=None)
    short_side: list[int] | None = None
    crop_class_fraction: float | None = fraction(default=None)
    interpolation: Literal["bilinear", "bicubic", "random"] | None = None
    flip: float = fraction(default=0.0)
    affine: AffineRecipe | None = None
    randaugment: RandAugmentRecipe | None = None
    three_augment: bool = False
    color_jitter: float = not_negative(default=0.0)
    grey: float = fraction(default=0.0)
    erasing: float = fraction(default=0.0)
    scale_jitter: ScaleJitterRecipe | None = None
    copy_paste: float = fraction(default=0.0)
    mixup: float = not_negative(default=0.0)
    cutmix: float = not_negative(default=0.0)
    mix_probability: float = fraction(default=1.0)
    cutmix_probability: float = fraction(default=0.5)
    mix_until: str | None = duration(default=None)
    repeats: int = positive(default=1)

    def validate_crop(self):
        names = ("crop_scale", "crop_padding", "short_side", "scale_jitter")
        crops = [name for name in names if getattr(self, name) is not None]
        if len(crops) > 1:
            raise ValueError(f"augmentation.{' and augmentation.'.join(crops)} exclude each other")
        if self.crop_clipped and self.crop_scale is None:
            raise ValueError("augmentation.crop_clipped is about augmentation.crop_scale, which is missing")
        if self.crop_padding is not None and self.crop_padding > MOST_PIXELS:
            raise ValueError(f"augmentation.crop_padding must be at most {MOST_PIXELS}, got {self.crop_padding}")
        for name, lowest, highest in (
            ("short_side", 1, MOST_PIXELS),
            ("crop_scale", 1e-6, 1),
            ("crop_ratio", 0.01, 100),
        ):
            if getattr(self, name) is not None:
                check_range(f"augmentation.{name}", getattr(self, name), lowest, highest)


@strict
@dataclass(kw_only=True)
class VideoRecipe:
    """Views of a video that the trained model is evaluated on; their predictions are averaged.

    Averaged are probabilities, as in SlowFast, or logits where the processor's convention is "scenic". During
    training, validation uses one view: the central clip, with a central crop of its frames.

    clips: number of clips, spread evenly over the video.
    crops: number of crops of each clip's frames: 1, or 3 along the longer side.
    """

    clips: int = positive(default=1)
    crops: Literal[1, 3] = 1


@strict
@dataclass(kw_only=True)
class SpecAugmentRecipe:
    """SpecAugment (arXiv 1904.08779) of training spectrograms: time warping, masks over frequency and time.

    time_warp: largest shift of the point in time that is moved, in frames; 0: off.
    frequency_masks: number of masks over frequency.
    frequency_width: largest width of a frequency mask, in bins.
    time_masks: number of masks over time.
    time_width: largest length of a time mask, in frames. None: time_fraction is given.
    time_fraction: largest length of a time mask, as a fraction of the recording's frames (arXiv 1912.05533). None:
        time_width is given.
    """

    time_warp: int = not_negative(default=0)
    frequency_masks: int = not_negative(default=2)
    frequency_width: int = not_negative(default=27)
    time_masks: int = not_negative(default=2)
    time_width: int | None = not_negative(default=None)
    time_fraction: float | None = fraction(default=None)

    def validate_time(self):
        if self.time_masks and (self.time_width is None) == (self.time_fraction is None):
            raise ValueError("audio.spec_augment: time masks need either time_width or time_fraction")


@strict
@dataclass(kw_only=True)
class AudioRecipe:
    """Augmentation of training recordings, in the order of the fields; evaluation only uses the processor.

    fit_normalization: normalise spectrograms, in evaluation too, by the mean and standard deviation of each frequency
        bin over the training recordings.
    speed: factors, one of which is drawn for each recording; 1.1 makes it faster and higher. Empty: off.
    shift: largest shift in time in either direction, in seconds; the gap is silent. 0: off.
    polarity: probability of changing the waveform's sign.
    reverb: probability of adding a room's reverberation.
    reverb_seconds: shortest and longest time in which the reverberation falls by 60 dB, in seconds.
    gain: probability of changing the level.
    gain_decibels: lowest and highest change of the level, in dB.
    noise: probability of adding white noise.
    noise_decibels: lowest and highest signal-to-noise ratio, in dB.
    spec_augment: SpecAugment, for models of spectrograms. None: off.
    mixup: alpha of MixUp (arXiv 1710.09412) of the model's inputs and of their classes; 0: off.
    mix_probability: probability that a batch is mixed.
    """

    fit_normalization: bool = False
    speed: list[float] = field(default_factory=list)
    shift: float = not_negative(default=0.0)
    polarity: float = fraction(default=0.0)
    reverb: float = fraction(default=0.0)
    reverb_seconds: list[float] = field(default_factory=lambda: [0.05, 0.5])
    gain: float = fraction(default=0.0)
    gain_decibels: list[float] = field(default_factory=lambda: [-20.0, -1.0])
    noise: float = fraction(default=0.0)
    noise_decibels: list[float] = field(default_factory=lambda: [5.0, 30.0])
    spec_augment: SpecAugmentRecipe | None = None
    mixup: float = not_negative(default=0.0)
    mix_probability: float = fraction(default=1.0)

    def validate_ranges(self):
        for name in ("reverb_seconds", "gain_decibels", "noise_decibels"):
            check_range(f"audio.{name}", getattr(self, name))
        if any(not 0.1 <= factor <= 10 for factor in self.speed):
            raise ValueError(f"audio.speed are factors such as 0.9 and 1.1, got {self.speed}")
