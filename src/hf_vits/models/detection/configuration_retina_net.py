"""Configuration of RetinaNet."""

from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict

from .configuration_detection import DetectorConfig, Numbers, Rows


@strict
class RetinaNetConfig(DetectorConfig):
    """Configuration of RetinaNet; the defaults are IBM/RegionViT's, over RegionViT-S.

    Args:
        head_num_layers: number of convolutions before the prediction of classes and before that of boxes.
        prior_probability: initial score of every class at every anchor.
        anchor_thresholds: in training, anchors that overlap no object by the first threshold or more belong to the
            background, those that overlap one by the second or more to this object; others are ignored.
        focal_alpha, focal_gamma: weight of positive anchors and exponent of the focal loss.
        max_candidates: number of candidates of each level that enter the suppression of overlapping ones.
        backbone_config, feature_strides, pyramid_size, anchor_sizes, anchor_ratios, smooth_l1_beta, score_threshold,
            nms_threshold, max_detections: see `DetectorConfig`.
    """

    model_type = "hf_vits_retina_net"
    default_backbone: ClassVar[dict[str, Any]] = {
        "model_type": "hf_vits_regionvit",
        "hidden_sizes": [96, 192, 384, 768],
        "num_attention_heads": [3, 6, 12, 24],
        "use_stage_norm": True,
        "drop_path_rate": 0.2,
        "out_features": ["stage2", "stage3", "stage4"],
    }
    num_coarser_levels: ClassVar[int] = 2
    size_fields = (*DetectorConfig.size_fields, "focal_gamma", "max_candidates")
    rate_fields = (*DetectorConfig.rate_fields, "prior_probability", "focal_alpha")

    feature_strides: list[int] | tuple[int, ...] = (8, 16, 32)
    anchor_sizes: Rows = tuple(tuple(side * 2 ** (step / 3) for step in range(3)) for side in (32, 64, 128, 256, 512))
    head_num_layers: int = 4
    prior_probability: float = 0.01
    anchor_thresholds: Numbers = (0.4, 0.5)
    focal_alpha: float | int = 0.25
    focal_gamma: float | int = 2.0
    max_candidates: int = 1000

    def check(self) -> None:
        super().check()
        self.check_thresholds("anchor_thresholds", [self.anchor_thresholds])
        if self.prior_probability <= 0:
            raise ValueError(f"prior_probability must lie in (0, 1), got {self.prior_probability}")
        if self.head_num_layers < 0:
            raise ValueError(f"head_num_layers must not be negative, got {self.head_num_layers}")


__all__ = ["RetinaNetConfig"]
