"""Checkpoints of mlpc-ucsd/CoaT: classifiers, and detectors with its backbones."""

import re

import torch
from transformers.core_model_loading import WeightRenaming

from hf_vits.models.coat.configuration_coat import CoatConfig
from hf_vits.models.coat.modeling_coat import CoatBackbone, CoatForImageClassification

from ..shared.inference import count, found, has_bias, num_labels, ratio, size, whole
from ..shared.preprocessing import resize_and_crop

COAT = {"num_parallel_layers": 6, "mlp_ratios": [4, 4, 4, 4], "num_labels": 1000}
LITE_SMALL = {"depths": [3, 4, 6, 3], "hidden_sizes": [64, 128, 320, 512]}
LITE_MEDIUM = {"depths": [3, 6, 10, 8], "hidden_sizes": [128, 256, 320, 512], "mlp_ratios": [4, 4, 4, 4]}

VARIANTS = {
    "coat_lite_tiny": {"num_labels": 1000},
    "coat_lite_mini": {"hidden_sizes": [64, 128, 320, 512], "num_labels": 1000},
    "coat_lite_small": {**LITE_SMALL, "num_labels": 1000},
    "coat_lite_medium": {**LITE_MEDIUM, "drop_path_rate": 0.3, "num_labels": 1000},
    "coat_lite_medium_384x384": {**LITE_MEDIUM, "image_size": 384, "drop_path_rate": 0.2, "num_labels": 1000},
    "coat_tiny": {**COAT, "hidden_sizes": [152, 152, 152, 152]},
    "coat_mini": {**COAT, "hidden_sizes": [152, 216, 216, 216]},
    "coat_small": {**COAT, "hidden_sizes": [152, 320, 320, 320], "drop_path_rate": 0.2},
}

# {pattern of a key: key of the shared tensor}: a checkpoint repeats a shared module in each module that uses it.
ALIASES = {
    r"^serial_blocks(\d+)\.\d+\.cpe\.": r"cpe\1.",
    r"^serial_blocks(\d+)\.\d+\.factoratt_crpe\.crpe\.": r"crpe\1.",
    r"^parallel_blocks\.\d+\.factoratt_crpe(\d+)\.crpe\.": r"crpe\1.",
    r"^parallel_blocks\.(\d+)\.mlp[34]\.": r"parallel_blocks.\1.mlp2.",
}
HEAD = re.compile(r"^(norm\d|aggregate|head)\.")
FIRST_KEY = "cls_token1"


def model_class(fields: dict) -> type[CoatForImageClassification | CoatBackbone]:
    return CoatBackbone if "out_features" in fields else CoatForImageClassification


def prepare(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    """Return the encoder's tensors, each once; ValueError if two copies of a shared tensor differ."""
    # A detector's file has its backbone below a prefix of the detection framework.
    prefix = next((key.removesuffix(FIRST_KEY) for key in tensors if key.endswith(f".{FIRST_KEY}")), "")
    prepared: dict[str, torch.Tensor] = {}
    for key, tensor in tensors.items():
        if not key.startswith(prefix):
            continue
        original = shared_key(key.removeprefix(prefix))
        if original in prepared and not torch.equal(prepared[original], tensor):
            raise ValueError(
                f"{key} differs from {original} in the checkpoint, where both should be one shared tensor: the "
                "file is damaged or of another architecture"
            )
        prepared[original] = tensor
    return prepared


def shared_key(key: str) -> str:
    """Return the key of the shared tensor that `key` is a copy of, `key` itself if it is not shared."""
    for alias, original in ALIASES.items():
        key = re.sub(alias, original, key)
    return key


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    """Return the fields that tensors record. A file without a head is a detector's: a backbone with all scales."""
    inferred = infer_sizes(tensors, fields)
    if not any(HEAD.match(key) for key in tensors):
        config = CoatConfig(**fields | inferred | {"out_features": None})
        return inferred | {"out_features": config.stage_names[1:], "num_labels": 0}
    return inferred | {"num_labels": num_labels(tensors)}


def infer_sizes(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    scales = range(1, 1 + (count(tensors, "serial_blocks", first=1) or 0))
    widths = whole([size(tensors, f"cls_token{scale}", 2, 3) for scale in scales])
    mlps = [size(tensors, f"serial_blocks{scale}.0.mlp.fc1.weight", 0, 2) for scale in scales]
    qkv = "serial_blocks1.0.factoratt_crpe.qkv."
    inferred = found(
        depths=whole([count(tensors, f"serial_blocks{scale}.") for scale in scales]),
        hidden_sizes=widths,
        num_parallel_layers=count(tensors, "parallel_blocks.") or 0,
        mlp_ratios=whole([ratio(*pair) for pair in zip(mlps, widths or [], strict=False)]),
        num_channels=size(tensors, "patch_embed1.proj.weight", 1, 4),
        patch_size=size(tensors, "patch_embed1.proj.weight", 2, 4),
        qkv_bias=has_bias(tensors, qkv),
    )
    windows = [f"crpe1.conv_list.{index}.weight" for index in range(count(tensors, "crpe1.conv_list.") or 0)]
    num_heads = fields.get("num_attention_heads", CoatConfig.num_attention_heads)
    channels = whole([size(tensors, window, 0, 4) for window in windows])
    if channels and widths and all(part * num_heads % widths[0] == 0 for part in channels):
        inferred["relative_window_sizes"] = [size(tensors, window, 2, 4) for window in windows]
        inferred["relative_window_heads"] = [part * num_heads // widths[0] for part in channels]
    return inferred


def transforms(config: CoatConfig) -> list:
    renamings = {}
    for stage in range(len(config.depths)):
        theirs, ours = stage + 1, f"model.stages.{stage}."
        renamings |= {
            rf"^patch_embed{theirs}\.": f"{ours}embeddings." if stage else "model.embeddings.",
            rf"^cls_token{theirs}": f"{ours}class_token",
            rf"^cpe{theirs}\.proj\.": f"{ours}positions.embedding.",
            rf"^crpe{theirs}\.conv_list\.": f"{ours}positions.relative.convolutions.",
            rf"^serial_blocks{theirs}\.": f"{ours}layers.",
            rf"^norm{theirs}\.": f"model.pooler.norms.{stage}.",
        }
    for index in range(len(config.depths) - 1):  # parallel layers begin with the second scale
        theirs = index + 2
        renamings |= {
            rf"\.norm1{theirs}\.": f".attention_norms.{index}.",
            rf"\.norm2{theirs}\.": f".mlp_norms.{index}.",
            rf"\.factoratt_crpe{theirs}\.": f".attentions.{index}.",
        }
    renamings |= {
        r"^parallel_blocks\.": "model.parallel_layers.",
        r"\.factoratt_crpe\.": ".attention.",
        r"\.norm1\.": ".attention_norm.",
        r"\.norm2\.": ".mlp_norm.",
        r"\.mlp2\.": ".mlp.",
        r"\.fc1\.": ".up.",
        r"\.fc2\.": ".down.",
        r"\.proj\.": ".projection.",
        r"^aggregate\.": "model.pooler.mixing.",
        r"^head\.": "classifier.",
    }
    return [WeightRenaming(old, new) for old, new in renamings.items()]


def processor(variant: str, config: CoatConfig) -> dict:
    """Return the preprocessing of src/datasets.py: short side to 256 / 224 of the size, bicubic; centre crop."""
    return resize_and_crop(config.image_size, 224 / 256)
