"""Checkpoints of google-research/google-research, ptopk_patch_selection: states that clu saves, of flax.deprecated.nn.

Modules without a name are numbered by their place among all children of their parent. Here they are numbered by their
place among those of their own class.
"""

import re
from collections import defaultdict
from itertools import groupby

import torch
from transformers import PreTrainedModel
from transformers.core_model_loading import Concatenate, WeightConverter, WeightRenaming

from hf_vits.models.patch_topk.configuration_nts_net import NtsNetConfig
from hf_vits.models.patch_topk.configuration_patch_cnn import PatchCnnConfig
from hf_vits.models.patch_topk.configuration_patch_selection import PatchSelectionConfig, normalization_steps
from hf_vits.models.patch_topk.modeling_nts_net import NtsNetForImageClassification
from hf_vits.models.patch_topk.modeling_patch_cnn import PatchCnnForImageClassification
from hf_vits.models.patch_topk.modeling_patch_selection import PatchSelectionForImageClassification

from ..shared.flax import torch_layout
from ..shared.inference import count, found, size
from ..shared.preprocessing import stretch

CNN = {"model_type": PatchCnnConfig.model_type}
ATS = CNN | {"network": "ats", "hidden_sizes": [32, 32, 32, 32], "strides": [1, 2, 2, 2]}
RESNET = CNN | {"network": "resnet", "hidden_sizes": [64, 128, 256, 512], "small_inputs": False}
RESNET18 = RESNET | {"depths": [2, 2, 2, 2], "layer_type": "basic"}
RESNET18_FOURTH = RESNET18 | {"hidden_sizes": [16, 32, 64, 128]}
RESNET50 = RESNET | {"depths": [3, 4, 6, 3], "layer_type": "bottleneck"}
VARIANTS = {
    "trafficsigns_topk": {"num_labels": 4, "feature_config": ATS | {"image_size": 100}},
    "billiard_topk": {
        "image_size": [1000, 1000],
        "num_patches": 10,
        "downscale": 4,
        "aggregation_method": "transformer",
        "aggregation_size": 256,
        "num_labels": 9,
        "feature_config": RESNET18 | {"image_size": 100},
    },
    "birds200_topk": {"num_parts": 4, "num_labels": 200, "feature_config": RESNET50 | {"image_size": 448}},
    "trafficsigns_cnn": {"num_labels": 4} | {name: value for name, value in ATS.items() if name not in CNN},
}
# {network: name of its module in the original}
NETWORKS = {"ats": "ATSFeatureNetwork_0", "resnet": "ResNet_0", "flat": "SimpleCNNImageClassifier_0"}
NUMBERED = re.compile(r"[A-Z]\w*_\d+")


def model_class(fields: dict) -> type[PreTrainedModel]:
    if "num_parts" in fields:
        return NtsNetForImageClassification
    return PatchCnnForImageClassification if "network" in fields else PatchSelectionForImageClassification


def infer_original(tensors: dict[str, torch.Tensor]) -> dict:
    """Return the number of heads, an axis of the kernels of queries."""
    key = next((key for key in tensors if key.endswith("MultiHeadDotProductAttention_0/query/kernel")), "")
    return found(num_attention_heads=size(tensors, key, 1, 3))


def prepare(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    """Return the weights and the statistics of batch norms, in torch's layout, with other numbers of modules."""
    weights = {}
    for key, tensor in tensors.items():
        key = re.sub("^model_(params|state)/", "", key)
        key = re.sub("/mean$", "/running_mean", key)
        key = re.sub("/var$", "/running_var", key)
        if not re.match("step$|optimizer_state/", key):
            weights[key] = tensor
    names = renumbered(list(weights))
    prepared = torch_layout({names[key]: tensor for key, tensor in weights.items()})
    norms = [key.removesuffix("running_mean") for key in prepared if key.endswith(".running_mean")]
    return prepared | {f"{norm}num_batches_tracked": torch.zeros((), dtype=torch.long) for norm in norms}


def renumbered(keys: list[str]) -> dict[str, str]:
    """Return {key: the same with modules numbered by their place among those of their class and parent}."""
    children = defaultdict(set)
    for key in keys:
        parts = key.split("/")
        for depth, part in enumerate(parts[:-1]):
            if NUMBERED.fullmatch(part):
                name, number = part.rsplit("_", 1)
                children["/".join([*parts[:depth], name])].add(int(number))
    places = {
        f"{path}_{number}": place for path, numbers in children.items() for place, number in enumerate(sorted(numbers))
    }
    names = {}
    for key in keys:
        parts = key.split("/")
        for depth in range(len(parts) - 1):
            place = places.get("/".join(key.split("/")[: depth + 1]))
            if place is not None:
                parts[depth] = f"{parts[depth].rsplit('_', 1)[0]}_{place}"
        names[key] = "/".join(parts)
    return names


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    if "network" in fields:
        classes = size(tensors, "final.bias", 0, 1) or 0
        inferred = infer_network(tensors, "", fields) | {"num_labels": classes}
        channels = inferred.pop("num_channels", 3)
        return inferred | {"num_channels": channels - 2 * fields.get("append_position", False)}
    if "num_parts" in fields:
        return infer_nts_net(tensors, fields)
    return infer_patch_selection(tensors, fields)


def infer_patch_selection(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    network = infer_network(tensors, "PatchNet_0.", fields.get("feature_config") or {})
    seen, scored = network.get("num_channels"), size(tensors, "PatchNet_0.scorer.Conv_0.weight", 1, 4)
    inferred = {"num_labels": size(tensors, "final.bias", 0, 1) or 0}
    inferred["scorer_squeeze_excitation"] = any("SqueezeExciteLayer" in key for key in tensors)
    if scored is None:
        inferred |= {"selection_method": "random", "inference_selection_method": None}
    elif "PatchNet_0.sigma_mutiplier" in tensors:
        inferred["selection_method"] = "perturbed_topk"
    if scored and seen:
        inferred["append_position"] = seen != scored
    transformer = "PatchNet_0.Transformer_0."
    depth = count(tensors, f"{transformer}StackedLayers_0.TransformerLayer_")
    if depth:
        inferred |= {"aggregation_method": "transformer", "num_hidden_layers": depth}
        width = size(tensors, f"{transformer}StackedLayers_0.TransformerLayer_0.ff_2.bias", 0, 1)
        inferred |= found(aggregation_size=width)
        if f"{transformer}cls_token" in tensors:
            inferred["pooling"] = "cls"
    steps = normalization_steps(fields.get("score_normalization", PatchSelectionConfig.score_normalization))
    if f"PatchNet_0.LayerNorm_{sum(name == 'layernorm' for name, _ in steps)}.weight" in tensors:
        inferred["aggregation_method"] = "sum_layer_norm"
    return inferred | {"feature_config": network}


def infer_nts_net(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    inferred = {"num_labels": size(tensors, "Dense_0.bias", 0, 1) or 0}
    inferred |= found(proposal_size=size(tensors, "ProposalNet_0.down1.bias", 0, 1))
    kinds = {"Dense_0": "squeeze_excite_d", "SqueezeExciteLayer_0": "squeeze_excite_x", "Transformer_0": "transformer"}
    inferred["communication"] = next(
        (kind for name, kind in kinds.items() if any(key.startswith(f"ProposalNet_0.{name}.") for key in tensors)),
        "none",
    )
    inferred |= found(
        num_hidden_layers=count(tensors, "ProposalNet_0.Transformer_0.StackedLayers_0.TransformerLayer_")
    )
    return inferred | {"feature_config": infer_network(tensors, "", fields["feature_config"])}


def infer_network(tensors: dict[str, torch.Tensor], prefix: str, fields: dict) -> dict:
    """Return the fields of the convolutional network whose keys begin with `prefix`."""
    network = next(
        (n for n, module in NETWORKS.items() if any(key.startswith(f"{prefix}{module}.") for key in tensors)), None
    )
    if network is None:
        return {}
    prefix = f"{prefix}{NETWORKS[network]}."
    if network == "ats":
        blocks = range(count(tensors, f"{prefix}BasicBlockv2_") or 0)
        sizes = [size(tensors, f"{prefix}BasicBlockv2_{index}.BatchNorm_1.weight", 0, 1) for index in blocks]
        sizes = [size(tensors, f"{prefix}Conv_0.weight", 0, 4), *sizes]
        channels, inferred = size(tensors, f"{prefix}Conv_0.weight", 1, 4), {}
    elif network == "flat":
        sizes = [size(tensors, f"{prefix}conv.bias", 0, 1)]
        channels = size(tensors, f"{prefix}conv.weight", 1, 4)
        inferred = found(projection_size=size(tensors, f"{prefix}fc.bias", 0, 1))
    else:
        kind = "bottleneck" if f"{prefix}BottleneckBlock_0.conv1.weight" in tensors else "basic"
        block = f"{prefix}{'BottleneckBlock' if kind == 'bottleneck' else 'BasicBlock'}_"
        widths = [size(tensors, f"{block}{index}.bn1.weight", 0, 1) for index in range(count(tensors, block) or 0)]
        stages = [(width, len(list(same))) for width, same in groupby(widths)]
        sizes, depths = [width for width, _ in stages], [depth for _, depth in stages]
        stem = f"{prefix}init_conv.weight"
        channels, small = size(tensors, stem, 1, 4), size(tensors, stem, 2, 4) == 3
        inferred = {"layer_type": kind, "depths": depths, "small_inputs": small}
    if None not in sizes and sizes:
        inferred["hidden_sizes"] = sizes
    return {"network": network} | inferred | found(num_channels=channels)


# Layers of the post-norm transformer.
LAYERS = {
    r"\.StackedLayers_0\.TransformerLayer_": ".layers.",
    r"\.ln_post_att\.": ".attention_norm.",
    r"\.ln_post_ffn\.": ".mlp_norm.",
    r"\.ff_1\.": ".mlp.up.",
    r"\.ff_2\.": ".mlp.down.",
    r"\.MultiHeadDotProductAttention_0\.out\.": ".attention.projection.",
}
EXCITATION = {r"\.Dense_0\.weight": ".down.weight", r"\.Dense_1\.weight": ".up.weight"}
QKV = WeightConverter(
    [rf"\.MultiHeadDotProductAttention_0\.{name}\." for name in ("query", "key", "value")],
    ".attention.qkv.",
    [Concatenate(0)],
)


def transforms(config: PatchSelectionConfig | NtsNetConfig | PatchCnnConfig) -> list:
    if isinstance(config, PatchCnnConfig):
        names = network_names(config, "", "model.")
        renamings = names | {r"^final\.": "classifier."}
    elif isinstance(config, NtsNetConfig):
        renamings = nts_net_names(config)
    else:
        renamings = patch_selection_names(config)
    return [*(WeightRenaming(old, new) for old, new in renamings.items()), QKV]


def patch_selection_names(config: PatchSelectionConfig) -> dict[str, str]:
    place, norms = (
        r"^PatchNet_0\.",
        sum(name == "layernorm" for name, _ in normalization_steps(config.score_normalization)),
    )
    names = network_names(config.feature_config, r"PatchNet_0\.", "model.feature_network.")
    names |= {rf"{place}scorer\.Conv_{index}\.": f"model.scorer.conv{index + 1}." for index in range(4)}
    for index in range(2):
        for old, new in EXCITATION.items():
            old = rf"{place}scorer\.SqueezeExciteLayer_{index}{old}"
            names[old] = f"model.scorer.excitation{index + 2}{new}"
    names |= {rf"{place}LayerNorm_{index}\.": f"model.normalization.norms.{index}." for index in range(norms)}
    return names | {
        rf"{place}LayerNorm_{norms}\.": "model.aggregation.norm.",
        rf"{place}Dense_0\.": "model.aggregation.position.",
        rf"{place}Transformer_0\.Dense_0\.": "model.aggregation.projection.",
        rf"{place}Transformer_0\.cls_token": "model.aggregation.class_token",
        rf"{place}Transformer_0\.": "model.aggregation.",
        rf"{place}classification_dense1\.": "model.projection.",
        rf"{place}sigma_mutiplier": "model.perturbed.sigma_multiplier",
        r"^final\.": "classifier.",
        **LAYERS,
    }


def nts_net_names(config: NtsNetConfig) -> dict[str, str]:
    names = network_names(config.feature_config, "", "model.feature_network.")
    place = r"^ProposalNet_0\."
    for index in range(3):
        names |= {rf"{place}down{index + 1}\.": f"model.proposal.down.{index}.conv."}
        names |= {rf"{place}tidy{index + 1}\.": f"model.proposal.tidy.{index}."}
    for old, new in EXCITATION.items():
        names[rf"{place}SqueezeExciteLayer_0{old}"] = f"model.proposal.input_excitation{new}"
        names[rf"{place.removesuffix('.').removesuffix(chr(92))}{old}"] = f"model.proposal.excitation{new}"
    return names | {
        rf"{place}scale_ratio_position_encodings": "model.proposal.transformer.position",
        rf"{place}Transformer_0\.": "model.proposal.transformer.",
        r"^sigma_mutiplier": "model.perturbed.sigma_multiplier",
        r"^Dense_0\.": "classifier.",
        r"^Dense_1\.": "image_classifier.",
        r"^Dense_2\.": "part_classifier.",
        **LAYERS,
    }


def network_names(config: PatchCnnConfig, prefix: str, ours: str) -> dict[str, str]:
    """Return {regular expression: our key} of a convolutional network."""
    place = rf"^{prefix}{NETWORKS[config.network]}\."
    if config.network == "flat":
        return {rf"{place}conv\.": f"{ours}stem.conv.", rf"{place}fc\.": f"{ours}projection."}
    if config.network == "resnet":
        block = rf"{place}(?:BasicBlock|BottleneckBlock)_(\d+)\."
        return {
            rf"{place}init_conv\.": f"{ours}stem.conv.",
            rf"{place}init_bn\.": f"{ours}stem.norm.",
            **{rf"{block}conv{index}\.": rf"{ours}blocks.\1.branch.conv{index}." for index in (1, 2, 3)},
            **{rf"{block}bn{index}\.": rf"{ours}blocks.\1.branch.norm{index}." for index in (1, 2, 3)},
            rf"{block}proj_conv\.": rf"{ours}blocks.\1.shortcut.conv.",
            rf"{block}proj_bn\.": rf"{ours}blocks.\1.shortcut.norm.",
        }
    names = {rf"{place}Conv_0\.": f"{ours}stem.conv.", rf"{place}BatchNorm_0\.": f"{ours}final.norm."}
    for index, stride in enumerate(config.strides[1:]):
        block, own = rf"{place}BasicBlockv2_{index}\.", f"{ours}blocks.{index}."
        projected = stride != 1 or config.hidden_sizes[index] != config.hidden_sizes[index + 1]
        convs = [*(["shortcut.conv"] if projected else []), "branch.conv1", "branch.conv2"]
        names |= {rf"{block}Conv_{place}\.": f"{own}{conv}." for place, conv in enumerate(convs)}
        names |= {rf"{block}BatchNorm_0\.": f"{own}activation.norm.", rf"{block}BatchNorm_1\.": f"{own}branch.norm1."}
    return names


def processor(variant: str, config: PatchSelectionConfig | NtsNetConfig | PatchCnnConfig) -> dict:
    """Return the preprocessing: values in [0, 1]; of the birds, 600 x 600 pixels, cropped, in [-1, 1]."""
    if isinstance(config, NtsNetConfig):
        side = config.image_size if isinstance(config.image_size, int) else config.image_size[0]
        fields = stretch(side * 600 // 448, mean=[0.5] * 3, std=[0.5] * 3)
        return fields | {"do_center_crop": True, "crop_size": {"height": side, "width": side}, "resample": 2}
    return stretch(config.image_size, mean=[0.0] * 3, std=[1.0] * 3) | {"resample": 2}
