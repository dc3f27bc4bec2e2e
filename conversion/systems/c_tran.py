"""Checkpoints of QData/C-Tran, which `main.py` saves; the authors published none."""

import torch
from PIL.Image import Resampling
from transformers.core_model_loading import WeightRenaming

from hf_vits.configuration import pair
from hf_vits.models.c_tran.configuration_c_tran import CTranConfig
from hf_vits.models.c_tran.modeling_c_tran import CTranForImageClassification

from ..shared.inference import count, found, num_labels, size, whole
from ..shared.preprocessing import IMAGENET_MEAN, IMAGENET_STD

VOC_CLASSES = ("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable")
VOC_CLASSES += ("dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor")
CUB = {
    "backbone": "inception_v3",
    "image_size": 299,
    "embedding_size": 32,
    "auxiliary_head": True,
    "feature_dropout_prob": 0.1,
    "loss_reduction": "mean",
}
# Named as the original's --dataset.
VARIANTS = {
    "voc": {"num_labels": 20},
    "coco": {"num_labels": 80},
    "vg": {"num_labels": 500},
    "news": {"num_labels": 500},
    "coco1000": {"num_labels": 1000},
    "nus": {"num_labels": 1000},
    "cub": {**CUB, "num_labels": 312},
}
BACKBONE = "backbone.base_network."
# Branches of Inception's layers, in the order of their concatenation, and the convolutions of each.
BRANCHES = {
    "5[bcd]": ("branch1x1", "branch5x5_", "branch3x3dbl_", "branch_pool"),
    "6a": ("branch3x3", "branch3x3dbl_"),
    "6[bcde]": ("branch1x1", "branch7x7_", "branch7x7dbl_", "branch_pool"),
    "7a": ("branch3x3_", "branch7x7x3_"),
    "7[bc]": ("branch1x1", "branch3x3_", "branch3x3dbl_", "branch_pool"),
}
STEM = {"1a_3x3": 0, "2a_3x3": 1, "2b_3x3": 2, "3b_1x1": 4, "4a_3x3": 5}
# Convolutions at the end of a branch that divides in two: {name: where the branch's chain divides}.
DIVIDED = {"branch3x3_2": "1.steps.1", "branch3x3dbl_3": "2.steps.2"}


def model_class(fields: dict) -> type[CTranForImageClassification]:
    return CTranForImageClassification


def prepare(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    """Return the tensors without those that nothing uses.

    They are the ResNet's classifier and CUB's `type_lt`, and the embedding of states without label mask training.
    """
    unused = (f"{BACKBONE}fc.", "type_lt.")
    unused += () if fields.get("use_known_labels", True) else ("known_label_lt.",)
    return {key: tensor for key, tensor in tensors.items() if not key.startswith(unused)}


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    layer = "self_attn_layers.0.transformer_layer."
    inferred = found(
        hidden_size=size(tensors, "output_linear.weight", 1, 2),
        num_hidden_layers=count(tensors, "self_attn_layers."),
        intermediate_size=size(tensors, f"{layer}linear1.weight", 0, 2),
    )
    inferred |= infer_resnet(tensors) if f"{BACKBONE}conv1.weight" in tensors else infer_inception(tensors)
    return inferred | {
        "num_labels": num_labels(tensors, "output_linear.bias"),
        "feature_projection": "conv_downsample.weight" in tensors,
    }


def infer_resnet(tensors: dict[str, torch.Tensor]) -> dict:
    first = f"{BACKBONE}conv1.weight"
    stages = [stage for stage in range(1, 10) if count(tensors, f"{BACKBONE}layer{stage}.")]
    depths = whole([count(tensors, f"{BACKBONE}layer{stage}.") for stage in stages])
    sizes = found(embedding_size=size(tensors, first, 0, 4), num_channels=size(tensors, first, 1, 4), depths=depths)
    return sizes | {"backbone": "resnet", "auxiliary_head": False}


def infer_inception(tensors: dict[str, torch.Tensor]) -> dict:
    first = f"{BACKBONE}Conv2d_1a_3x3.conv.weight"
    if first not in tensors:
        return {}
    sizes = found(embedding_size=size(tensors, first, 0, 4), num_channels=size(tensors, first, 1, 4))
    has_head = any(key.startswith(f"{BACKBONE}AuxLogits.") for key in tensors)
    return sizes | {"backbone": "inception_v3", "auxiliary_head": has_head}


def transforms(config: CTranConfig) -> list[WeightRenaming]:
    renamings = inception_names() if config.backbone == "inception_v3" else resnet_names()
    renamings |= {
        rf"^{BACKBONE}": "model.embeddings.backbone.",
        r"^label_lt\.": "model.embeddings.label_embedding.",
        r"^known_label_lt\.": "model.embeddings.state_embedding.",
        r"^conv_downsample\.": "model.embeddings.projection.",
        r"^LayerNorm\.": "model.embeddings.norm.",
        r"^self_attn_layers\.(\d+)\.transformer_layer\.": r"model.layers.\1.",
        r"\.self_attn\.in_proj_": ".attention.qkv.",
        r"\.self_attn\.out_proj\.": ".attention.projection.",
        r"\.linear1\.": ".mlp.up.",
        r"\.linear2\.": ".mlp.down.",
        r"\.norm1\.": ".attention_norm.",
        r"\.norm2\.": ".mlp_norm.",
        r"^output_linear\.": "classifier.",
    }
    return [WeightRenaming(old, new) for old, new in renamings.items()]


def resnet_names() -> dict[str, str]:
    """Return {torchvision's names of a ResNet's tensors: ours}, as regular expressions."""
    names = {rf"^{BACKBONE}conv1\.": "model.embeddings.backbone.stem.0."}
    names |= {rf"^{BACKBONE}bn1\.": "model.embeddings.backbone.stem.1."}
    for stage in range(1, 10):
        for number, ours in enumerate(("reduce", "convolution", "expand"), start=1):
            start, end = rf"^{BACKBONE}layer{stage}\.(\d+)\.", rf"model.embeddings.backbone.stages.{stage - 1}.\1."
            names |= {rf"{start}conv{number}\.": f"{end}{ours}.0.", rf"{start}bn{number}\.": f"{end}{ours}.1."}
            names |= {rf"{start}downsample\.": f"{end}shortcut."}
    return names


def inception_names() -> dict[str, str]:
    """Return {torchvision's names of Inception v3's tensors: ours}, as regular expressions."""
    start, ours, names = f"^{BACKBONE}", "model.embeddings.backbone.", {}
    for part, index in ((r"conv\.", 0), (r"bn\.", 1)):
        for name, step in STEM.items():
            names[rf"{start}Conv2d_{name}\.{part}"] = f"{ours}stem.steps.{step}.{index}."
        for layers, branches in BRANCHES.items():
            mixed = rf"{start}Mixed_({layers})\."
            for number, branch in enumerate(branches):
                place = rf"{ours}layers.mixed_\1.branches.{number}.steps."
                if not branch.endswith("_"):  # pooling comes before its convolution
                    names[rf"{mixed}{branch}\.{part}"] = f"{place}{int(branch == 'branch_pool')}.{index}."
                    continue
                for step in range(5):
                    names[rf"{mixed}{branch}{step + 1}\.{part}"] = f"{place}{step}.{index}."
            for branch, place in DIVIDED.items():
                for number, letter in enumerate("ab"):
                    end = rf"{ours}layers.mixed_\1.branches.{place}.branches.{number}.steps.0.{index}."
                    names[rf"{mixed}{branch}{letter}\.{part}"] = end
        for step in range(2):
            head = f"{ours}auxiliary_head.convolutions.steps.{step}.{index}."
            names[rf"{start}AuxLogits\.conv{step}\.{part}"] = head
    return names | {rf"{start}AuxLogits\.fc\.": f"{ours}auxiliary_head.classifier."}


def processor(variant: str, config: CTranConfig) -> dict:
    """Return the preprocessing of load_data.py at evaluation.

    Images are stretched to 10/9 of the model's size, bilinear, of which the centre is cropped. For CUB the centre is
    cropped without resizing, and the values, around 0.5, are divided by 2.
    """
    height, width = pair(config.image_size)
    fields = {
        "crop_size": {"height": height, "width": width},
        "do_center_crop": True,
        "resample": Resampling.BILINEAR,
        "image_mean": IMAGENET_MEAN,
        "image_std": IMAGENET_STD,
    }
    if variant == "cub":
        return fields | {"do_resize": False, "image_mean": [0.5] * 3, "image_std": [2.0] * 3}
    return fields | {"size": {"height": round(height * 10 / 9), "width": round(width * 10 / 9)}}
