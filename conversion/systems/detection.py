"""Checkpoints of detectors, heads included: detectron2's projects/MViTv2 and IBM/RegionViT's detection.

RetinaNet, Mask R-CNN and Cascade Mask R-CNN of detectron2 over one of these backbones. Read from the file: kind and
sizes of the backbone, levels and channels of the pyramid, kind and sizes of the heads, and the number of classes.
"""

import re
from math import log2
from types import ModuleType

import torch
from PIL.Image import Resampling
from transformers.core_model_loading import WeightRenaming

from hf_vits.models.detection.configuration_detection import DetectorConfig
from hf_vits.models.detection.configuration_mask_rcnn import MaskRcnnConfig
from hf_vits.models.detection.modeling_detection import LossNormalizer
from hf_vits.models.detection.modeling_mask_rcnn import MaskRcnnForInstanceSegmentation, MaskRcnnForObjectDetection
from hf_vits.models.detection.modeling_retina_net import RetinaNetForObjectDetection
from hf_vits.processing.detection import VitsDetectionProcessor

from ..core import apply_transforms, build
from ..shared.inference import found, size
from ..shared.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from . import mvit, regionvit

# Systems whose files are parts of the files here, and which read these as backbones alone.
CONTAINS = ("mvit", "regionvit")

COCO = {"num_labels": 80}
CASCADE = {
    "proposal_num_layers": 2,
    "stage_thresholds": [0.5, 0.6, 0.7],
    "stage_weights": [[10, 10, 5, 5], [20, 20, 10, 10], [30, 30, 15, 15]],
    "class_agnostic_boxes": True,
    "head_norm": True,
    "box_num_convolutions": 4,
    "box_num_linear": 1,
}


def over_mvit(sizes: dict, drop_path_rate: float, cascade: bool = True) -> dict:
    """Return the fields of a Mask R-CNN over MViTv2."""
    backbone = {**mvit.DETECTION, **sizes, "drop_path_rate": drop_path_rate, "model_type": "hf_vits_mvit"}
    return {**COCO, **(CASCADE if cascade else {}), "backbone_config": without_labels(backbone)}


def over_regionvit(variant: str, dense: bool) -> dict:
    """Return the fields of a RetinaNet (`dense`) or Mask R-CNN over RegionViT."""
    stages = ["stage2", "stage3", "stage4"] if dense else ["stage1", "stage2", "stage3", "stage4"]
    fields = {"model_type": "hf_vits_regionvit", "use_stage_norm": True, "drop_path_rate": 0.2, "out_features": stages}
    return {**COCO, "backbone_config": without_labels(regionvit.VARIANTS[variant]) | fields}


def without_labels(fields: dict) -> dict:
    """Return the fields of a backbone, which has no classifier."""
    return {name: value for name, value in fields.items() if name != "num_labels"}


# {end of the published names: variant}; the dagger's was trained and measured with larger images.
REGIONVIT = {
    "S": "regionvit_small_224",
    "S+": "regionvit_small_w14_224",
    "S+peg": "regionvit_small_w14_peg_224",
    "B": "regionvit_base_224",
    "B+": "regionvit_base_w14_224",
    "B+peg": "regionvit_base_w14_peg_224",
    "B+peg_dagger": "regionvit_base_w14_peg_224",
}
VARIANTS = {
    "mask_rcnn_mvitv2_t_3x": over_mvit(mvit.TINY, 0.2, cascade=False),
    "cascade_mask_rcnn_mvitv2_t_3x": over_mvit(mvit.TINY, 0.2),
    "cascade_mask_rcnn_mvitv2_s_3x": over_mvit(mvit.SMALL, 0.2),
    "cascade_mask_rcnn_mvitv2_b_3x": over_mvit(mvit.BASE, 0.4),
    "cascade_mask_rcnn_mvitv2_b_in21k_3x": over_mvit(mvit.BASE, 0.4),
    "cascade_mask_rcnn_mvitv2_l_in21k_lsj_50ep": over_mvit(mvit.LARGE, 0.5),
    "cascade_mask_rcnn_mvitv2_h_in21k_lsj_3x": over_mvit(mvit.HUGE, 0.6),
    **{
        f"{kind}_{schedule}_RegionViT-{name}": over_regionvit(variant, dense=kind == "RetinaNet")
        for kind in ("MaskRCNN", "RetinaNet")
        for schedule in ("1x", "3x")
        for name, variant in REGIONVIT.items()
    },
}

# Fields of a file without a mask head.
WITHOUT_MASKS = {"architectures": ["MaskRcnnForObjectDetection"]}
BACKBONE, ANCHORS = "backbone.bottom_up.", 9  # anchors of a cell of RetinaNet


def part_of(tensors: dict[str, torch.Tensor]) -> tuple[ModuleType, str]:
    """Return the system of the backbone and the prefix of its keys; ValueError if the file is of no detector."""
    for module in (regionvit, mvit):
        if any(key.startswith(module.DETECTOR) for key in tensors):
            return module, module.DETECTOR
    raise ValueError(f"the checkpoint is of no detector: no key begins with {BACKBONE}")


def backbone_of(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the backbone's tensors under their own keys."""
    prefix = part_of(tensors)[1]
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def is_dense(fields: dict) -> bool:
    """Return whether fields, or what was inferred, are a RetinaNet's, whose pyramid leaves out the finest map."""
    return len(fields["backbone_config"]["out_features"]) == 3


def model_class(fields: dict) -> type:
    if is_dense(fields):
        return RetinaNetForObjectDetection
    has_masks = fields.get("architectures") != WITHOUT_MASKS["architectures"]
    return MaskRcnnForInstanceSegmentation if has_masks else MaskRcnnForObjectDetection


def infer_original(tensors: dict[str, torch.Tensor]) -> dict:
    """Return the fields that the file records."""
    part = part_of(tensors)[0]
    backbone = without_labels(part.infer(part.prepare(backbone_of(tensors), {}), {}))
    levels = [level for level in range(2, 6) if f"backbone.fpn_lateral{level}.weight" in tensors]
    backbone["model_type"] = part.model_class(backbone).config_class.model_type
    backbone["out_features"] = [f"stage{level - 1}" for level in levels]
    inferred = found(pyramid_size=size(tensors, f"backbone.fpn_lateral{levels[0]}.weight", 0) if levels else None)
    inferred |= {"backbone_config": backbone, "feature_strides": [2**level for level in levels]}
    if "head.cls_score.weight" in tensors:
        classes = size(tensors, "head.cls_score.weight", 0)
        return inferred | found(num_labels=classes // ANCHORS, head_num_layers=layers(tensors, r"head\.cls_subnet\."))
    return inferred | infer_regions(tensors)


def layers(tensors: dict[str, torch.Tensor], pattern: str) -> int:
    """Return the number of layers whose weights have keys of a pattern and a number."""
    return sum(bool(re.fullmatch(rf"{pattern}\d+\.weight", key)) for key in tensors)


def infer_regions(tensors: dict[str, torch.Tensor]) -> dict:
    """Return the fields of the heads of a Mask R-CNN."""
    cascade = "roi_heads.box_predictor.0.cls_score.weight" in tensors
    first = ".0" if cascade else ""
    head = rf"roi_heads\.box_head{re.escape(first)}\."
    classes = size(tensors, f"roi_heads.box_predictor{first}.cls_score.weight", 0)
    boxes = size(tensors, f"roi_heads.box_predictor{first}.bbox_pred.weight", 0)
    inferred = {
        "proposal_num_layers": max(1, layers(tensors, r"proposal_generator\.rpn_head\.conv\.conv")),
        "box_num_convolutions": layers(tensors, f"{head}conv"),
        "box_num_linear": layers(tensors, f"{head}fc"),
        "mask_num_convolutions": layers(tensors, r"roi_heads\.mask_head\.mask_fcn"),
        "head_norm": any(key.endswith("1.norm.weight") for key in tensors if key.startswith("roi_heads.")),
        "class_agnostic_boxes": boxes == 4,
        **({} if "roi_heads.mask_head.predictor.weight" in tensors else WITHOUT_MASKS),
    }
    stages = layers(tensors, r"roi_heads\.box_predictor\.")
    return inferred | found(
        num_labels=classes and classes - 1,
        box_linear_size=size(tensors, f"roi_heads.box_head{first}.fc1.weight", 0),
        head_size=size(tensors, "roi_heads.mask_head.deconv.weight", 1),
        **{name: CASCADE[name][:stages] for name in ("stage_thresholds", "stage_weights") if stages},
    )


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    return {}


def prepare(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    """Return the backbone's tensors under our keys, and those of pyramid and heads under their own."""
    part, fields_of_backbone = part_of(tensors)[0], fields["backbone_config"]
    if not isinstance(fields_of_backbone, dict):
        fields_of_backbone = fields_of_backbone.to_dict()
    with torch.device("meta"):  # its shapes alone are read
        model = build(part.model_class(fields_of_backbone), without_type(fields_of_backbone))
    prepared = part.prepare(backbone_of(tensors), fields_of_backbone)
    converted = apply_transforms(prepared, part.transforms(model.config), model, resize=False)
    heads = {key: value for key, value in tensors.items() if not key.startswith(BACKBONE)}
    if is_dense(fields):
        heads["loss_normalizer.value"] = torch.tensor(LossNormalizer.initial_value)
    return {f"backbone.model.{key}": value for key, value in converted.items()} | heads


def without_type(fields: dict) -> dict:
    """Return the fields of a configuration without its `model_type`."""
    return {name: value for name, value in fields.items() if name != "model_type"}


def transforms(config: DetectorConfig) -> list[WeightRenaming]:
    first = round(log2(config.feature_strides[0]))
    pyramid = {}
    for index, level in enumerate(range(first, first + len(config.feature_strides))):
        pyramid[rf"^backbone\.fpn_lateral{level}\."] = f"backbone.pyramid.lateral.{index}."
        pyramid[rf"^backbone\.fpn_output{level}\."] = f"backbone.pyramid.output.{index}."
    heads = region_names(config) if isinstance(config, MaskRcnnConfig) else dense_names(config)
    return [WeightRenaming(old, new) for old, new in (pyramid | heads).items()]


def dense_names(config: DetectorConfig) -> dict[str, str]:
    """Return {keys of detectron2's RetinaNet: ours}, as regular expressions."""
    names = {rf"^backbone\.top_block\.p{level}\.": f"backbone.pyramid.coarser.{level - 6}." for level in (6, 7)}
    for theirs, ours in {"cls": "classes", "bbox": "boxes"}.items():
        for layer in range(config.head_num_layers):
            names[rf"^head\.{theirs}_subnet\.{2 * layer}\."] = f"{ours}.convolutions.{layer}."
    return names | {r"^head\.cls_score\.": "classes.prediction.", r"^head\.bbox_pred\.": "boxes.prediction."}


def region_names(config: MaskRcnnConfig) -> dict[str, str]:
    """Return {keys of detectron2's Mask R-CNN: ours}, as regular expressions."""
    rpn = r"^proposal_generator\.rpn_head\."
    names = {
        rf"{rpn}conv\.conv(\d+)\.": r"proposal_head.convolutions.\1.",
        rf"{rpn}conv\.(?=weight|bias)": "proposal_head.convolutions.0.",
        rf"{rpn}objectness_logits\.": "proposal_head.objectness.",
        rf"{rpn}anchor_deltas\.": "proposal_head.offsets.",
        # One head has no number.
        r"^roi_heads\.(box_head|box_predictor)\.(?!\d)": r"roi_heads.\1.0.",
        r"^roi_heads\.box_head\.": "box_heads.",
        r"^roi_heads\.box_predictor\.(\d+)\.cls_score\.": r"box_heads.\1.classifier.",
        r"^roi_heads\.box_predictor\.(\d+)\.bbox_pred\.": r"box_heads.\1.offsets.",
        r"^roi_heads\.mask_head\.mask_fcn(\d+)\.": r"mask_head.conv\1.",
        r"^roi_heads\.mask_head\.deconv\.": "mask_head.enlargement.",
        r"^roi_heads\.mask_head\.predictor\.": "mask_head.prediction.",
    }
    for layer in range(config.box_num_linear):
        names[rf"^(box_heads\.\d+)\.fc{layer + 1}\."] = rf"\1.linear.{layer}."
    for layer in range(max(config.box_num_convolutions, config.mask_num_convolutions)):
        names[rf"^(box_heads\.\d+|mask_head)\.conv{layer + 1}\.norm\."] = rf"\1.convolutions.{layer}.1."
        names[rf"^(box_heads\.\d+|mask_head)\.conv{layer + 1}\."] = rf"\1.convolutions.{layer}.0."
    return names


def processor(variant: str, config: DetectorConfig) -> VitsDetectionProcessor:
    """Return the originals' preprocessing at evaluation.

    MViTv2: short side to 800, long side at most 1333. RegionViT: 672 and 1120, of the models with a dagger 896 and
    1344; mean and standard deviation are in BGR order but applied to RGB, as in the original's training.
    """
    if config.backbone_config.model_type == "hf_vits_mvit":
        sides, mean, std = (800, 1333), IMAGENET_MEAN, IMAGENET_STD
    else:
        sides = (896, 1344) if variant.endswith("dagger") else (672, 1120)
        mean, std = (
            [value / 255 for value in values] for values in ((103.53, 116.28, 123.675), (57.375, 57.12, 58.395))
        )
    return VitsDetectionProcessor(
        size=dict(zip(("shortest_edge", "longest_edge"), sides, strict=True)),
        resample=Resampling.BILINEAR,
        image_mean=list(mean),
        image_std=list(std),
    )
