"""Checkpoints of ristea/septr.

The released code attends along the rows of its input first. On spectrograms (frequency, time) it is SepTr-VH; the
variant septr_hv is the same network on their transpose. septr_v and septr_h have no original code: their checkpoints
have the tensors of the first axis only, `transformer_h`. Sizes and classes are read from the file. Not in it: the
width of a head (`head_dim` or `num_attention_heads`) and pooling of the input (`pool_size`).
"""

import re

import torch
from transformers.core_model_loading import WeightRenaming

from hf_vits.models.septr.configuration_septr import SepTrConfig
from hf_vits.models.septr.modeling_septr import SepTrForAudioClassification

from ..shared.inference import num_labels

SIZE_FIELDS = {"frequency": "num_mel_bins", "time": "num_frames"}
# The original's suffixes of keys of the first and of the second axis.
LETTERS = ("h", "w")
HOP_LENGTH = 128


def fields(*axes: str) -> dict:
    return {"axes": axes, "num_labels": 35}


VARIANTS = {
    "septr_vh": fields("frequency", "time"),
    "septr_hv": fields("time", "frequency"),
    "septr_v": fields("frequency"),
    "septr_h": fields("time"),
}


def model_class(fields: dict) -> type[SepTrForAudioClassification]:
    return SepTrForAudioClassification


def prepare(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    """Reshape the class token to (1, channels); ValueError if a tensor that sizes are read from has another rank."""
    num_axes = {"cls_token": 4, "transformer.0.pos_embedding_h": 4, "transformer.0.pos_embedding_w": 4}
    num_axes |= {"transformer.0.projection.weight": 2}
    for key, count in num_axes.items():
        if key in tensors and tensors[key].ndim != count:
            raise ValueError(
                f"the checkpoint does not fit: {key} must have {count} axes, found shape {tuple(tensors[key].shape)}"
            )
    return {key: tensor.flatten(0, 2) if key == "cls_token" else tensor for key, tensor in tensors.items()}


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    layers = {int(match[1]) for key in tensors if (match := re.match(r"transformer\.(\d+)\.", key))}
    inferred = {
        "num_labels": num_labels(tensors, "fc.bias"),
        "num_hidden_layers": max(layers, default=0) + 1,
    }
    if (projection := tensors.get("transformer.0.projection.weight")) is not None:
        inferred["hidden_size"], inferred["num_channels"] = projection.shape
    first = "transformer.0.transformer_h.layers.0."
    if (up := tensors.get(f"{first}1.fn.net.0.weight")) is not None:
        inferred["intermediate_size"] = len(up)
    if (qkv := tensors.get(f"{first}0.fn.to_qkv.weight")) is not None:
        inferred |= heads(len(qkv) // 3, fields)
    windows = dict(zip(SIZE_FIELDS, fields.get("pool_size") or (1, 1), strict=True))
    for axis, letter in zip(fields["axes"], LETTERS, strict=False):
        if (table := tensors.get(f"transformer.0.pos_embedding_{letter}")) is not None:
            inferred[SIZE_FIELDS[axis]] = windows[axis] * (table.shape[2] - 1)
    return inferred


def heads(width: int, fields: dict) -> dict:
    """Return number or width of the heads, from the one that the caller gave, else from the original's width."""
    if "num_attention_heads" in fields:
        return {"head_dim": width // fields["num_attention_heads"]}
    return {"num_attention_heads": width // fields.get("head_dim", SepTrConfig.head_dim)}


def transforms(config: SepTrConfig) -> list:
    renamings = {"^cls_token": "model.class_token", r"^fc\.": "classifier."}
    renamings |= {r"^transformer\.0\.projection\.": "model.embeddings.projection."}
    renamings |= {r"^transformer\.": "model.layers."}
    for index, letter in enumerate(LETTERS):
        renamings[rf"\.pos_embedding_{letter}"] = f".axes.{index}.position_embedding"
        renamings[rf"\.transformer_{letter}\.layers\.0\."] = f".axes.{index}.layer."
    renamings |= {
        r"\.layer\.0\.norm\.": ".layer.attention_norm.",
        r"\.layer\.0\.fn\.to_qkv\.": ".layer.attention.qkv.",
        r"\.layer\.0\.fn\.to_out\.0\.": ".layer.attention.projection.",
        r"\.layer\.1\.norm\.": ".layer.mlp_norm.",
        r"\.layer\.1\.fn\.net\.0\.": ".layer.mlp.up.",
        r"\.layer\.1\.fn\.net\.3\.": ".layer.mlp.down.",
    }
    return [WeightRenaming(old, new) for old, new in renamings.items()]


def processor(variant: str, config: SepTrConfig):
    """Return log-mel spectrograms as LeRaC (arXiv 2205.09180) describes them; SepTr's code has no preprocessing.

    The hop length is ESC-50's: 128 frames, the default, are about one second at 16 kHz. Clips are padded with
    silence or cut to the model's number of frames.
    """
    from hf_vits.processing.audio import VitsSpectrogramFeatureExtractor

    return VitsSpectrogramFeatureExtractor(
        feature_size=config.num_mel_bins,
        sampling_rate=16000,
        n_fft=1024,
        win_length=512,
        hop_length=HOP_LENGTH,
        window_function="hamming",
        power=0.5,
        normalization="min_max",
        padding="max_length",
        max_length=(config.num_frames - 1) * HOP_LENGTH,
        truncation=True,
        pad_with_silence=True,
        return_attention_mask=False,
    )
