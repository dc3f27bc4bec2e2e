"""The sections of a recipe that pretrains without labels."""

from dataclasses import dataclass, field
from typing import Literal

from huggingface_hub.dataclasses import strict

from .fields import check_range, not_negative, positive, share


@strict
@dataclass(kw_only=True)
class ViewsRecipe:
    """Several views of each image, for methods that compare them; `augmentation` is for those that take one.

    The defaults are DINO's (arXiv 2104.14294; facebookresearch/dino, main_dino.py, `DataAugmentationDINO`). Three
    probabilities are of the first global view, the other global views, and the local views.

    num_global, num_local: how many there are; global views have the backbone's image size.
    local_size: side of a local view in pixels.
    global_scale, local_scale: fewest and most of the image's area that a view covers.
    flip: probability of a horizontal flip.
    color_jitter: probability of another brightness, contrast, saturation and hue.
    jitter: how far each of these four may move, as torchvision's `ColorJitter` counts it.
    grey: probability of losing all colour.
    blur: probabilities of a Gaussian blur.
    solarize: probabilities of inverting the bright half.
    """

    num_global: int = positive(default=2)
    num_local: int = not_negative(default=8)
    local_size: int = positive(default=96)
    global_scale: list[float] = field(default_factory=lambda: [0.4, 1.0])
    local_scale: list[float] = field(default_factory=lambda: [0.05, 0.4])
    flip: float = share(default=0.5)
    color_jitter: float = share(default=0.8)
    jitter: list[float] = field(default_factory=lambda: [0.4, 0.4, 0.2, 0.1])
    grey: float = share(default=0.2)
    blur: list[float] = field(default_factory=lambda: [1.0, 0.1, 0.5])
    solarize: list[float] = field(default_factory=lambda: [0.0, 0.2, 0.0])

    def validate_views(self):
        if self.num_global < 2:
            raise ValueError(f"views.num_global: views are compared, so two or more are needed, got {self.num_global}")
        for name in ("global_scale", "local_scale"):
            check_range(f"views.{name}", getattr(self, name))
        if len(self.jitter) != 4 or min(self.jitter) < 0 or self.jitter[3] > 0.5:
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
    """Which patches of the global views iBOT's student does not see; with AttMask the model itself masks them.

    shape: `blocks` (BEiT's rectangles) or `scattered` patches.
    ratios, spreads: part of the patches, drawn from ratio - spread to ratio + spread for each view; of several ranges
        one is chosen.
    first_epoch: nothing is masked before.
    """

    shape: Literal["blocks", "scattered"] = "blocks"
    ratios: list[float] = field(default_factory=lambda: [0.0, 0.3])
    spreads: list[float] = field(default_factory=lambda: [0.0, 0.2])
    first_epoch: int = not_negative(default=0)

    def validate_spreads(self):
        if len(self.spreads) not in (1, len(self.ratios)):
            raise ValueError(f"masks.spreads has one value or one per ratio, got {self.spreads} for {self.ratios}")


@strict
@dataclass(kw_only=True)
class MomentumTeacherRecipe:
    """How a teacher follows its student. The defaults are DINO's.

    momentum: weight of the teacher's own weights at each step, first and last, along half a cosine.
    temperature: of its outputs, first and last, linear over temperature_warmup epochs.
    patch_temperature: likewise of its outputs for patches (iBOT); none: as temperature. With masks.first_epoch it
        stays at the first value until then.
    temperature_warmup: in epochs.
    frozen_last_layer: for how many epochs the last layer of the student's head stays as it is.
    """

    momentum: list[float] = field(default_factory=lambda: [0.996, 1.0])
    temperature: list[float] = field(default_factory=lambda: [0.04, 0.04])
    patch_temperature: list[float] | None = None
    temperature_warmup: int = not_negative(default=0)
    frozen_last_layer: int = not_negative(default=1)

    def validate_pairs(self):
        for name in ("momentum", "temperature", "patch_temperature"):
            values = getattr(self, name)
            if values is not None and (len(values) != 2 or min(values) < 0):
                raise ValueError(f"momentum_teacher.{name} is [first, last], got {values}")
        if max(self.momentum) > 1:
            raise ValueError(f"momentum_teacher.momentum is at most 1, got {self.momentum}")


@strict
@dataclass(kw_only=True)
class NeighboursRecipe:
    """Nearest neighbours, by which the features are judged whenever the run evaluates (DINO, eval_knn.py).

    number: how many neighbours vote.
    temperature: divides their similarities.
    bank: how many of the training images are searched for neighbours, spread evenly; none: all of them.
    """

    number: int = positive(default=20)
    temperature: float = positive(default=0.07)
    bank: int | None = positive(default=None)
