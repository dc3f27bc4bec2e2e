"""What the configurations of all detectors share."""

from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from ...configuration import VitsConfig, check_maps, nested_config

# What is given may be a dict; from construction on it is a configuration, with the fields of whatever backbone.
if TYPE_CHECKING:
    BackboneConfig = Any
else:
    BackboneConfig = dict[str, Any] | PreTrainedConfig | None

# A list of numbers, and one of them for each level or stage.
Numbers = list[float | int] | tuple[float | int, ...]
Rows = list[Numbers] | tuple[Numbers, ...]


@strict
class DetectorConfig(VitsConfig):
    """Base of the configurations of detectors with anchors on a feature pyramid.

    `num_labels` (or `id2label`) is the number of classes, without the background.

    Attributes:
        backbone_config: configuration of any model of `AutoBackbone`, whose `out_features` are what the pyramid is
            made of; a dict must name its `model_type`.
        feature_strides: distance in pixels of neighbouring cells of each of the backbone's feature maps, from fine to
            coarse, powers of 2 and each twice the one before.
        pyramid_size: channels of the feature pyramid.
        anchor_sizes: of each level of the pyramid, the sides in pixels of the square anchors.
        anchor_ratios: height / width of the anchors, which have the area of the square one.
        smooth_l1_beta: difference up to which the loss of the boxes is quadratic; 0 for L1.
        score_threshold: detections have a higher score.
        nms_threshold: of two detections of a class whose overlap (intersection over union) is higher, only the one
            with the higher score is kept.
        max_detections: number of detections of an image; if there are fewer, the outputs are padded with score 0.
    """

    sub_configs: ClassVar[dict[str, type]] = {"backbone_config": AutoConfig}
    # A backbone of the original's, with the feature maps that the pyramid needs.
    default_backbone: ClassVar[dict[str, Any]] = {}
    # Levels of the pyramid beyond those that feature maps of the backbone are joined to.
    num_coarser_levels: ClassVar[int] = 1
    keys_to_ignore_at_inference = ["hidden_states", "attentions", "loss_dict"]
    size_fields = ("feature_strides", "pyramid_size", "anchor_ratios", "max_detections")
    rate_fields = ("score_threshold",)

    backbone_config: BackboneConfig = None
    feature_strides: list[int] | tuple[int, ...] = (4, 8, 16, 32)
    pyramid_size: int = 256
    anchor_sizes: Rows = ((32,), (64,), (128,), (256,), (512,))
    anchor_ratios: Numbers = (0.5, 1.0, 2.0)
    smooth_l1_beta: float | int = 0.0
    score_threshold: float | int = 0.05
    nms_threshold: float | int = 0.5
    max_detections: int = 100

    def __post_init__(self, **kwargs):
        self.backbone_config = nested_config("backbone_config", self.backbone_config, self.default_backbone)
        super().__post_init__(**kwargs)

    @property
    def num_channels(self) -> int:
        """Number of channels of the images."""
        return getattr(self.backbone_config, "num_channels", 3)

    @property
    def image_size(self) -> int | list[int] | tuple[int, int]:
        """Size of the images for which the backbone is made; a detector takes others."""
        return getattr(self.backbone_config, "image_size", 224)

    @property
    def level_strides(self) -> list[int]:
        """Distance in pixels of neighbouring cells of each level of the pyramid."""
        last = self.feature_strides[-1]
        return [*self.feature_strides, *(last * 2 ** (step + 1) for step in range(self.num_coarser_levels))]

    @property
    def num_anchors(self) -> int:
        """Number of anchors of a cell."""
        return len(self.anchor_sizes[0]) * len(self.anchor_ratios)

    def check(self) -> None:
        super().check()
        check_maps(self.backbone_config)
        strides, sizes = list(self.feature_strides), self.anchor_sizes
        powers = strides and strides[0] & (strides[0] - 1) == 0
        if not powers or any(stride != 2 * finer for finer, stride in pairwise(strides)):
            raise ValueError(
                "feature_strides must be powers of 2, each twice the one before, as [4, 8, 16, 32], got "
                f"feature_strides={self.feature_strides}"
            )
        if len(sizes) != len(self.level_strides) or len({len(row) for row in sizes}) != 1 or not sizes[0]:
            raise ValueError(
                f"anchor_sizes needs equally many sizes for each of the {len(self.level_strides)} levels of strides "
                f"{self.level_strides}, which are those of feature_strides and of num_coarser_levels more, got "
                f"anchor_sizes={sizes}"
            )
        if any(size <= 0 for row in sizes for size in row) or not self.anchor_ratios:
            raise ValueError(
                "anchor_sizes and anchor_ratios must be positive, and of ratios there must be one or more, got "
                f"anchor_sizes={sizes} and anchor_ratios={self.anchor_ratios}"
            )
        if not self.num_labels:
            raise ValueError("a detector needs one class or more, got num_labels=0")
        if not 0 < self.nms_threshold <= 1:
            raise ValueError(f"nms_threshold must lie in (0, 1], got {self.nms_threshold}")
        if self.smooth_l1_beta < 0:
            raise ValueError(f"smooth_l1_beta must not be negative, got {self.smooth_l1_beta}")

    def check_thresholds(self, name: str, pairs: list | tuple) -> None:
        """Raise ValueError unless a field has pairs (low, high) of overlaps with 0 < low <= high <= 1."""
        if not pairs or any(len(pair) != 2 or not 0 < pair[0] <= pair[1] <= 1 for pair in pairs):
            raise ValueError(f"{name} must be (low, high) with 0 < low <= high <= 1, got {name}={getattr(self, name)}")


__all__ = ["DetectorConfig"]
