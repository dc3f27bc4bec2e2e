"""Configuration of Mask R-CNN and Cascade Mask R-CNN."""

from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict

from .configuration_detection import DetectorConfig, Numbers, Rows


@strict
class MaskRcnnConfig(DetectorConfig):
    """Configuration of Mask R-CNN; the defaults are detectron2's Mask R-CNN over MViTv2-T.

    With several `stage_thresholds` it is a Cascade Mask R-CNN; without the mask head, `MaskRcnnForObjectDetection`,
    it is a Faster R-CNN.

    Args:
        proposal_num_layers: number of 3x3 convolutions of the region proposal network.
        anchor_thresholds: in training, anchors that overlap no object by the first threshold or more belong to the
            background, those that overlap one by the second or more to this object; others are ignored.
        anchors_per_image, positive_anchors: number of anchors of an image that are drawn for the loss, and the
            largest fraction of them that belongs to objects.
        max_candidates, max_proposals: number of candidates of each level that enter the suppression of overlapping
            ones, and of proposals of an image that leave it.
        train_max_candidates, train_max_proposals: the same in training.
        proposal_nms_threshold: overlap above which the proposal with the lower score is left out.
        regions_per_image, positive_regions: number of proposals of an image that are drawn for the loss of the box
            head, and the largest fraction of them that belongs to objects.
        stage_thresholds: for each stage of the cascade, the overlap from which a proposal belongs to an object.
        stage_weights: for each stage, by what the four offsets of boxes are multiplied.
        class_agnostic_boxes: whether one box is predicted for all classes; a cascade needs it.
        head_size: channels of the convolutions of box and mask heads.
        head_norm: whether these have a batch norm instead of a bias.
        box_num_convolutions, box_num_linear, box_linear_size: number of convolutions, and number and channels of
            linear layers before the prediction of class and box.
        box_pool_size, mask_pool_size: rows and columns of the features that are pooled for a region; masks have twice
            as many.
        mask_num_convolutions: number of convolutions before the mask is enlarged.
        backbone_config, feature_strides, pyramid_size, anchor_sizes, anchor_ratios, smooth_l1_beta, score_threshold,
            nms_threshold, max_detections: see `DetectorConfig`.
    """

    model_type = "hf_vits_mask_rcnn"
    default_backbone: ClassVar[dict[str, Any]] = {
        "model_type": "hf_vits_mvit",
        "window_size": 56,
        "use_stage_norm": True,
        "initializer": "detectron2",
        "drop_path_rate": 0.2,
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    }
    size_fields = (*DetectorConfig.size_fields, "anchors_per_image", "max_candidates", "max_proposals")
    size_fields += ("train_max_candidates", "train_max_proposals", "regions_per_image", "head_size")
    size_fields += ("box_linear_size", "box_pool_size", "mask_pool_size", "proposal_num_layers", "box_num_linear")

    proposal_num_layers: int = 1
    anchor_thresholds: Numbers = (0.3, 0.7)
    anchors_per_image: int = 256
    positive_anchors: float | int = 0.5
    max_candidates: int = 1000
    max_proposals: int = 1000
    train_max_candidates: int = 2000
    train_max_proposals: int = 1000
    proposal_nms_threshold: float | int = 0.7
    regions_per_image: int = 512
    positive_regions: float | int = 0.25
    stage_thresholds: Numbers = (0.5,)
    stage_weights: Rows = ((10, 10, 5, 5),)
    class_agnostic_boxes: bool = False
    head_size: int = 256
    head_norm: bool = False
    box_num_convolutions: int = 0
    box_num_linear: int = 2
    box_linear_size: int = 1024
    box_pool_size: int = 7
    mask_pool_size: int = 14
    mask_num_convolutions: int = 4

    @property
    def num_stages(self) -> int:
        """Number of box heads, each of which refines the boxes of the one before."""
        return len(self.stage_thresholds)

    def check(self) -> None:
        super().check()
        self.check_thresholds("anchor_thresholds", [self.anchor_thresholds])
        self.check_thresholds("stage_thresholds", [(value, value) for value in self.stage_thresholds])
        if len(self.stage_weights) != self.num_stages or any(len(row) != 4 for row in self.stage_weights):
            raise ValueError(
                f"stage_weights needs four numbers for each of the {self.num_stages} stages of stage_thresholds="
                f"{self.stage_thresholds}, got stage_weights={self.stage_weights}"
            )
        if any(weight <= 0 for row in self.stage_weights for weight in row):
            raise ValueError(f"stage_weights must be positive, got stage_weights={self.stage_weights}")
        if self.num_stages > 1 and not self.class_agnostic_boxes:
            raise ValueError(
                "a cascade refines one box for all classes: set class_agnostic_boxes=True, or give one threshold, got "
                f"stage_thresholds={self.stage_thresholds}"
            )
        for name in ("positive_anchors", "positive_regions"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in (0, 1], got {name}={getattr(self, name)}")
        if not 0 < self.proposal_nms_threshold <= 1:
            raise ValueError(f"proposal_nms_threshold must lie in (0, 1], got {self.proposal_nms_threshold}")
        if min(self.box_num_convolutions, self.mask_num_convolutions) < 0:
            raise ValueError(
                "box_num_convolutions and mask_num_convolutions must not be negative, got "
                f"{self.box_num_convolutions} and {self.mask_num_convolutions}"
            )


__all__ = ["MaskRcnnConfig"]
