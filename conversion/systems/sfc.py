"""Alxead/SFC (.pth): ResNets for correspondence to `ResNetModel`, full checkpoints to `SFCForPreTraining`.

`resnet18` and `resnet50` are encoders as SFC propagates labels with them: the last stage left out, stride 8. They are
read from SFC's own checkpoint, from the files that SFC fuses it with (MoCo v1, SimSiam, PixPro), from CRW's and from
torchvision's. `*_full` is the model that trains correspondence; `*_imagenet` is torchvision's classifier.
"""

import re

import torch
from transformers import PreTrainedModel
from transformers.core_model_loading import WeightRenaming

from hf_vits.models.res_net.configuration_res_net import ResNetConfig
from hf_vits.models.res_net.modeling_res_net import ResNetForImageClassification, ResNetModel
from hf_vits.pretraining.sfc.configuration_sfc import SFCConfig
from hf_vits.pretraining.sfc.modeling_sfc import SFCForPreTraining

from ..shared.inference import count, found, num_labels, size, whole
from ..shared.preprocessing import resize_and_crop

# layer_type, depths, hidden_sizes
SIZES = {
    "resnet18": ("basic", [2, 2, 2, 2], [64, 128, 256, 512]),
    "resnet50": ("bottleneck", [3, 4, 6, 3], [256, 512, 1024, 2048]),
}
CLASSIFIER_STRIDES, DENSE_STRIDES = [1, 2, 2, 2], [1, 2, 1, 1]
MAX_STAGES = 4


def resnet(name: str, strides: list[int], **more) -> dict:
    """Return the fields of a ResNet with as many stages as `strides`."""
    layer_type, depths, hidden_sizes = SIZES[name]
    stages = len(strides)
    fields = {"layer_type": layer_type, "depths": depths[:stages], "hidden_sizes": hidden_sizes[:stages]}
    return fields | {"strides": strides} | more


VARIANTS = {
    **{f"{name}_imagenet": resnet(name, CLASSIFIER_STRIDES, num_labels=1000) for name in SIZES},
    **{name: resnet(name, DENSE_STRIDES[:3]) for name in SIZES},
    **{
        f"{name}_full": {
            "backbone_config": {
                "model_type": ResNetConfig.model_type,
                "image_size": 256,
                **resnet(name, DENSE_STRIDES),
            }
        }
        for name in SIZES
    },
}

# Prefixes of the encoder to read, by file: SFC, MoCo v1, CRW, SimSiam and PixPro.
ENCODERS = ("online_encoder.", "encoder_q.", "encoder.model.", "encoder.")
# Their modules and ours, in a full checkpoint.
PARTS = {
    "online_encoder.": "student.backbone.",
    "target_encoder.": "teacher.backbone.",
    "online_projector.": "student.head.",
    "target_projector.": "teacher.head.",
    "predictor.": "student.predictor.",
}
MLP_LAYERS = {"linear1": "0", "bn1": "1", "linear2": "3"}


def is_full(fields: dict) -> bool:
    return "backbone_config" in fields


def model_class(fields: dict) -> type[PreTrainedModel]:
    if is_full(fields):
        return SFCForPreTraining
    return ResNetForImageClassification if "num_labels" in fields else ResNetModel


def without_wrapper(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key.removeprefix("module."): value for key, value in tensors.items()}


def prepare(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    """Return the tensors without prefixes; of an encoder, without its classifier and the stages that it leaves out."""
    tensors = without_wrapper(tensors)
    if is_full(fields):
        return tensors
    for prefix in ENCODERS:
        if inside := {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}:
            tensors = inside
            break
    if "num_labels" in fields:
        return {key if key.startswith("fc.") else f"model.{key}": value for key, value in tensors.items()}
    # CRW pads in a module of its own before a convolution.
    tensors = {re.sub(r"\b(conv\d)\.1\.weight$", r"\1.weight", key): value for key, value in tensors.items()}
    left_out = ["fc", *(f"layer{stage}" for stage in range(len(fields["depths"]) + 1, MAX_STAGES + 1))]
    return {key: value for key, value in tensors.items() if key.partition(".")[0] not in left_out}


def infer_original(tensors: dict[str, torch.Tensor]) -> dict:
    """Return how CRW's networks pad, which no other has."""
    is_crw = any(key.startswith("encoder.model.") for key in without_wrapper(tensors))
    return {"padding_mode": "reflect"} if is_crw else {}


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    if not is_full(fields):
        inferred = infer_resnet(tensors, "model." if "num_labels" in fields else "")
        # Strides are recorded nowhere; a file may have fewer stages than the variant.
        inferred |= {"strides": fields["strides"][: len(inferred.get("depths", fields["strides"]))]}
        return inferred | ({"num_labels": num_labels(tensors, "fc.bias")} if "num_labels" in fields else {})
    return found(
        projection_hidden_size=size(tensors, "online_projector.linear1.weight", 0, 4),
        projection_size=size(tensors, "online_projector.linear2.weight", 0, 4),
        prediction_hidden_size=size(tensors, "predictor.linear1.weight", 0, 4),
    ) | {"backbone_config": infer_resnet(tensors, "online_encoder.")}


def infer_resnet(tensors: dict[str, torch.Tensor], prefix: str) -> dict:
    """Return the sizes of a ResNet whose keys begin with `prefix`."""
    stages = [f"{prefix}layer{number}." for number in range(1, MAX_STAGES + 1)]
    stages = [stage for stage in stages if f"{stage}0.conv1.weight" in tensors]
    is_bottleneck = f"{prefix}layer1.0.conv3.weight" in tensors
    last = "conv3" if is_bottleneck else "conv2"
    inferred = found(
        num_channels=size(tensors, f"{prefix}conv1.weight", 1, 4),
        stem_hidden_size=size(tensors, f"{prefix}conv1.weight", 0, 4),
        depths=whole([count(tensors, stage) for stage in stages]),
        hidden_sizes=whole([size(tensors, f"{stage}0.{last}.weight", 0, 4) for stage in stages]),
    )
    if not stages:
        return inferred
    inferred["layer_type"] = "bottleneck" if is_bottleneck else "basic"
    if is_bottleneck:
        width, per_group = (size(tensors, f"{prefix}layer1.0.conv2.weight", axis, 4) for axis in (0, 1))
        planes = (size(tensors, f"{prefix}layer1.0.conv3.weight", 0, 4) or 0) // 4
        if width and per_group and planes:
            groups = width // per_group
            inferred |= {"groups": groups, "width_per_group": 64 * width // (planes * groups)}
    return inferred


def resnet_renamings(ours: str, theirs: str = "") -> list[WeightRenaming]:
    """Return the renamings from torchvision's keys, below `theirs`, to the keys of `ResNetModel`, below `ours`."""
    names = {rf"^{theirs}conv1\.": f"{ours}embeddings.convolution.0."}
    names |= {rf"^{theirs}bn1\.": f"{ours}embeddings.convolution.1."}
    for number in range(3):
        for part, name in enumerate(("conv", "bn")):
            pattern = rf"^({theirs}layer\d\.\d+)\.{name}{number + 1}\."
            names[pattern] = rf"\1.convolutions.{number}.{part}."
    names[rf"^({theirs}layer\d\.\d+)\.downsample\."] = r"\1.shortcut."
    for stage in range(MAX_STAGES):
        names[rf"^{theirs}layer{stage + 1}\."] = f"{ours}stages.{stage}.layers."
    return [WeightRenaming(pattern, name) for pattern, name in names.items()]


def transforms(config: ResNetConfig | SFCConfig) -> list[WeightRenaming]:
    if not isinstance(config, SFCConfig):
        classifier = [*resnet_renamings("model.", r"model\."), WeightRenaming(r"^fc\.", "classifier.")]
        return [*resnet_renamings(""), *classifier]
    renamings = []
    for theirs, ours in PARTS.items():
        pattern = theirs.replace(".", r"\.")
        if theirs.endswith("encoder."):
            renamings += resnet_renamings(ours, pattern)
        else:
            renamings += [
                WeightRenaming(rf"^{pattern}{name}\.", f"{ours}{index}.") for name, index in MLP_LAYERS.items()
            ]
    return renamings


def to_original(model: SFCForPreTraining | ResNetModel) -> dict[str, dict[str, torch.Tensor]]:
    """Return {"model": tensors} as SFC's train.py saves them and its test_vos.py reads them.

    A plain encoder becomes `online_encoder`, with which labels are propagated.

    Raises:
        TypeError: the model is neither a ResNet nor trained over one.
    """
    config = getattr(model.config, "backbone_config", model.config)
    if not isinstance(model, SFCForPreTraining | ResNetModel) or not isinstance(config, ResNetConfig):
        raise TypeError(f"SFC's checkpoints are of a ResNet or of SFC over one, got {type(model).__name__}")
    tensors = model.state_dict()
    if isinstance(model, ResNetModel):
        tensors = {f"student.backbone.{key}": value for key, value in tensors.items()}
    return {"model": {original_key(key): value for key, value in tensors.items()}}


def original_key(key: str) -> str:
    """Return SFC's key for a key of `SFCForPreTraining`."""
    theirs, ours = next(item for item in PARTS.items() if key.startswith(item[1]))
    inner = key.removeprefix(ours)
    if not theirs.endswith("encoder."):
        index, _, leaf = inner.partition(".")
        return f"{theirs}{next(name for name, number in MLP_LAYERS.items() if number == index)}.{leaf}"
    inner = re.sub(r"^embeddings\.convolution\.0\.", "conv1.", inner)
    inner = re.sub(r"^embeddings\.convolution\.1\.", "bn1.", inner)
    inner = re.sub(r"^stages\.(\d)\.layers\.", lambda found: f"layer{int(found[1]) + 1}.", inner)
    inner = re.sub(
        r"convolutions\.(\d)\.([01])\.", lambda found: f"{('conv', 'bn')[int(found[2])]}{int(found[1]) + 1}.", inner
    )
    return theirs + inner.replace(".shortcut.", ".downsample.")


def processor(variant: str, config: ResNetConfig | SFCConfig) -> dict:
    """Return the preprocessing of data/vos.py: ImageNet's mean and deviation, images of any size.

    The size is used where batches are made of images; labels are propagated at the size of the frames.
    """
    config = getattr(config, "backbone_config", config)
    return resize_and_crop(config.image_size, 0.875)
