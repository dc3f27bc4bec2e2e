"""Sections of a recipe that pretrains without labels: views, masks, teacher and evaluation by neighbours."""

import math
from dataclasses import dataclass, field
from typing import Literal

from huggingface_hub.dataclasses import strict

from .augmentation import MOST_PIXELS
from .fields import check_range, fraction, not_negative, positive


@strict
@dataclass(kw_only=True)
class ViewsRecipe:
    """Several views of each training image, for methods that compare them.

    The defaults are DINO's (arXiv 2104.14294; facebookresearch/dino, main_dino.py, `DataAugmentationDINO`). The
    section `augmentation` is for methods with one view per image. A list of three probabilities is for the first
    global view, the other global views, and the local views.

    num_global: number of global views, of the backbone's image size; 2 or more.
    num_local: number of local views.
    local_size: height and width of a local view, in pixels.
    global_scale: smallest and largest fraction of the image's area that a global view covers.
    local_scale: smallest and largest fraction of the image's area that a local view covers.
    overlap: fraction of the image's area that each view has in common with every global view, at least; two global
        views have twice as much (Leopart). None: views are independent.
    flip: probability of a horizontal flip.
    color_jitter: probability of changing brightness, contrast, saturation and hue.
    jitter: largest relative changes of brightness, contrast and saturation, and largest shift of the hue (at most
        0.5), as in torchvision's `ColorJitter`.
    grey: probability of a conversion to greyscale.
    blur: three probabilities of a Gaussian blur.
    solarize: three probabilities of inverting all levels of 128 and above.
    mixup: alpha of MixUp of the views of two images, for EsViT without regions; 0: off.
    cutmix: alpha of CutMix of them; 0: off.
    mix_probability: probability that a view of two images is mixed, by MixUp or CutMix.
    cutmix_probability: probability that they are mixed by CutMix, where both are on.
    num_mixed: number of views, from the first global one, that are mixed.
    """

    num_global: int = positive(default=2)
    num_local: int = not_negative(default=8)
    local_size: int = positive(default=96)
    global_scale: list[float] = field(default_factory=lambda: [0.4, 1.0])
    local_scale: list[float] = field(default_factory=lambda: [0.05, 0.4])
    overlap: float | None = fraction(default=None)
    flip: float = fraction(default=0.5)
    color_jitter: float = fraction(default=0.8)
    jitter: list[float] = field(default_factory=lambda: [0.4, 0.4, 0.2, 0.1])
    grey: float = fraction(default=0.2)
    blur: list[float] = field(default_factory=lambda: [1.0, 0.1, 0.5])
    solarize: list[float] = field(default_factory=lambda: [0.0, 0.2, 0.0])
    mixup: float = not_negative(default=0.0)
    cutmix: float = not_negative(default=0.0)
    mix_probability: float = fraction(default=1.0)
    cutmix_probability: float = fraction(default=0.5)
    num_mixed: int = positive(default=10)

    def validate_views(self):
        if self.num_global < 2:
            raise ValueError(f"views.num_global: views are compared, so two or more are needed, got {self.num_global}")
        for name in ("global_scale", "local_scale"):
            check_range(f"views.{name}", getattr(self, name), 1e-6, 1)
        if self.overlap is not None and self.flip:
            raise ValueError("views.overlap needs boxes of views that are not flipped: set views.flip to 0")
        if self.overlap is not None and 2 * self.overlap >= self.global_scale[1]:
            raise ValueError(
                f"views.overlap: global views of at most {self.global_scale[1]:g} of the image cannot have "
                f"{2 * self.overlap:g} of it in common"
            )
        if self.overlap is not None and self.num_local and self.overlap >= self.local_scale[1]:
            raise ValueError(
                f"views.overlap: local views of at most {self.local_scale[1]:g} of the image cannot have "
                f"{self.overlap:g} of it in common with global views"
            )
        for name, most in (("num_global", 1000), ("num_local", 1000), ("local_size", MOST_PIXELS)):
            if getattr(self, name) > most:
                raise ValueError(f"views.{name} must be at most {most}, got {getattr(self, name)}")
        if len(self.jitter) != 4 or not all(0 <= value < math.inf for value in self.jitter) or self.jitter[3] > 0.5:
            raise ValueError(
                "views.jitter is four numbers, of brightness, contrast, saturation and hue, none negative, the last "
                f"at most 0.5, got {self.jitter}"
            )
        for name in ("blur", "solarize"):
            values = getattr(self, name)
            if len(values) != 3 or not all(0 <= value <= 1 for value in values):
                raise ValueError(
                    f"views.{name} are three probabilities, of the first global view, the other global views and the "
                    f"local views, got {values}"
                )


@strict
@dataclass(kw_only=True)
class MaskRecipe:
    """Masks over the patches of iBOT's global views, which hide them from the student.

    AttMask takes no such section: its model chooses the masks.

    shape: `blocks`, rectangles as in BEiT, or `scattered`, single patches.
    ratios: mean fractions of masked patches. One of them is chosen at random for each view.
    spreads: largest deviation from each of the ratios, one for all or one per ratio. The fraction is drawn between
        ratio - spread and ratio + spread.
    first_epoch: number of epochs at the beginning without masks.
    """

    shape: Literal["blocks", "scattered"] = "blocks"
    ratios: list[float] = field(default_factory=lambda: [0.0, 0.3])
    spreads: list[float] = field(default_factory=lambda: [0.0, 0.2])
    first_epoch: int = not_negative(default=0)

    def validate_spreads(self):
        if not self.ratios or not all(0 <= value <= 1 for value in (*self.ratios, *self.spreads)):
            raise ValueError(f"masks.ratios and masks.spreads lie between 0 and 1, got {self.ratios}, {self.spreads}")
        if len(self.spreads) not in (1, len(self.ratios)):
            raise ValueError(f"masks.spreads has one value or one per ratio, got {self.spreads} for {self.ratios}")


@strict
@dataclass(kw_only=True)
class PriorsRecipe:
    """Spatial priors of SPAN: where in the images of a spatially consistent data set each region tends to lie.

    Give `masks`, the regions of one labelled sample, or `statistic`.

    masks: image files of the sample's regions, one per region, non-zero inside. None: `statistic` is given.
    statistic: map over the training images whose highest values are a region: `mean` of the pixels, or their
        `variance`. None: `masks` are given.
    fractions: with `statistic`, the fraction of the pixels that each region has, such as [0.1, 0.3].
    images: with `statistic`, the number of training images that are read, spread evenly. None: all of them.
    sigma: standard deviation of the Gaussian blur of the regions, as a fraction of the shorter side.
    """

    masks: list[str] | None = None
    statistic: Literal["mean", "variance"] | None = None
    fractions: list[float] = field(default_factory=lambda: [0.2])
    images: int | None = positive(default=1000)
    sigma: float = fraction(default=0.04)

    def validate_source(self):
        if (self.masks is None) == (self.statistic is None):
            raise ValueError("priors: give either `masks`, the regions of one labelled sample, or `statistic`")
        if not self.fractions or not all(0 < value < 1 for value in self.fractions):
            raise ValueError(f"priors.fractions lie between 0 and 1, got {self.fractions}")
        if self.masks is not None and not self.masks:
            raise ValueError("priors.masks names no file: one per region is needed")


@strict
@dataclass(kw_only=True)
class MomentumTeacherRecipe:
    """The teacher of a self-distillation method: an exponential moving average (EMA) of the student.

    The defaults are DINO's.

    momentum: first and last decay of the EMA, changed along half a cosine over the run.
    temperature: first and last softmax temperature of the teacher's outputs, changed linearly over temperature_warmup.
    patch_temperature: first and last temperature of the teacher's outputs for patches (iBOT); with masks.first_epoch
        it stays at the first until then. None: `temperature`.
    temperature_warmup: duration of the change of the temperatures, in epochs.
    frozen_last_layer: number of epochs at the beginning in which the last layer of the student's head is not trained.
    """

    momentum: list[float] = field(default_factory=lambda: [0.996, 1.0])
    temperature: list[float] = field(default_factory=lambda: [0.04, 0.04])
    patch_temperature: list[float] | None = None
    temperature_warmup: int = not_negative(default=0)
    frozen_last_layer: int = not_negative(default=1)

    def validate_pairs(self):
        for name in ("momentum", "temperature", "patch_temperature"):
            values = getattr(self, name)
            if values is not None and (len(values) != 2 or not all(0 <= value < math.inf for value in values)):
                raise ValueError(f"momentum_teacher.{name} is [first, last], got {values}")
        if 0 in (*self.temperature, *(self.patch_temperature or ())):
            raise ValueError(f"momentum_teacher.temperature and patch_temperature are above 0, got {self.temperature}")
        if max(self.momentum) > 1:
            raise ValueError(f"momentum_teacher.momentum is at most 1, got {self.momentum}")


@strict
@dataclass(kw_only=True)
class NeighboursRecipe:
    """The k-nearest-neighbour classifier that measures the features at every evaluation (DINO, eval_knn.py).

    number: number of neighbours that vote (k).
    temperature: temperature that divides the neighbours' cosine similarities.
    bank: number of training images to search, spread evenly over the training split. None: all of them.
    """

    number: int = positive(default=20)
    temperature: float = positive(default=0.07)
    bank: int | None = positive(default=None)
