"""Golden cases of whole detectors: the backbone's maps, the pyramid, dense heads, and region heads on given boxes."""

import importlib
from pathlib import PurePath

import torch
from torch import nn

from hf_vits.conversion import convert
from hf_vits.models.detection.modeling_mask_rcnn import MaskRcnnForObjectDetection
from hf_vits.models.detection.modeling_retina_net import RetinaNetForObjectDetection

from .golden import Case, Config
from .record import with_channels


def compute(case: Case) -> dict[str, torch.Tensor]:
    architecture = case.path.stem.partition("_")[0]
    computed = importlib.import_module(f"tests.parity.{architecture}").compute_detection(case)
    model, inputs = convert("detection", variant(case.config), case.checkpoint()), case.inputs()
    levels = model.backbone(torch.from_numpy(inputs["pixel_values"]))
    strides = model.config.level_strides
    named = {f"p{stride.bit_length() - 1}": level for stride, level in zip(strides, levels, strict=True)}
    computed |= {f"fpn_{name}": level for name, level in named.items()}
    if isinstance(model, RetinaNetForObjectDetection):
        computed |= {f"cls_logits_{name}": model.classes(level) for name, level in named.items()}
        computed |= {f"box_deltas_{name}": model.boxes(level) for name, level in named.items()}
    else:
        for name, level in named.items():
            computed[f"rpn_objectness_{name}"], computed[f"rpn_deltas_{name}"] = model.proposal_head(level)
        if "boxes" in inputs:
            computed |= regions(model, levels[:-1], torch.from_numpy(inputs["boxes"]))
    return with_channels(case, computed)


def variant(config: Config) -> str:
    """Name of the published model with the case's heads; what its backbone is, the file says."""
    if "yaml" in config:
        return f"{'RetinaNet' if 'retinanet' in config['yaml'] else 'MaskRCNN'}_1x_RegionViT-S"
    return PurePath(config["config"]).stem


def regions(model: nn.Module, levels: list[torch.Tensor], boxes: torch.Tensor) -> dict[str, torch.Tensor]:
    """What the heads compute of given boxes of the first image."""
    assert isinstance(model, MaskRcnnForObjectDetection)
    places = [boxes, *(boxes[:0] for _ in range(len(levels[0]) - 1))]
    pooled, computed = model.box_pooling(levels, places), {}
    for stage, head in enumerate(model.box_heads):
        name = f"roi{stage}" if len(model.box_heads) > 1 else "roi"
        computed[f"{name}_class_logits"], computed[f"{name}_box_deltas"] = head(pooled)
    if hasattr(model, "mask_head"):
        computed["roi_mask_logits"] = model.mask_head(model.mask_pooling(levels, places))
    return computed
