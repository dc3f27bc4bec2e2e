"""Checkpoints of The-Learning-Machines/Audiomer-PyTorch (Lightning's .ckpt, or plain).

The name of a variant contains the model's size and its number of classes of Speech Commands V2. Plain names are the
repository's newest code, with cross-attention; `_legacy` is its commit 6270ca27, the only one that loads the released
checkpoints. Which of the two a file is, which parts it lacks and how it is pooled is read from the file. Strides are
not in it: a model whose context has the query's stride needs `context_stride=2`.
"""

import re

import torch
from transformers.core_model_loading import Concatenate, WeightConverter, WeightRenaming

from hf_vits.models.audiomer.configuration_audiomer import AudiomerConfig
from hf_vits.models.audiomer.modeling_audiomer import AudiomerForAudioClassification

from ..shared.inference import count, found, num_labels, ratio, size, whole

# Classes in the classifier's order: datamodules/SpeechCommands12.py, SpeechCommands20.py, SpeechCommands35.py
COMMANDS = ["yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"]
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
OTHERS = ["backward", "bed", "bird", "cat", "dog", "follow", "forward", "happy", "house", "learn", "marvin", "sheila"]
OTHERS += ["tree", "visual", "wow"]
CLASSES = {
    12: ["_silence_", "_unknown_", *COMMANDS],
    20: [*COMMANDS, *DIGITS],
    35: sorted([*COMMANDS, *DIGITS, *OTHERS]),
}
HIDDEN_SIZES = {
    "s": [4, 8, 8, 16, 16, 32, 32, 64, 64],
    "m": [4, 8, 16, 16, 32, 64, 128],
    "l": [4, 8, 16, 16, 32, 32, 64, 64, 96, 96, 192],
}
# run_expts.py: fields of each ablation of the small model with 12 classes, all without squeeze-and-excitation
ABLATIONS = {
    "": {},
    "_equal_strides": {"context_stride": 2},
    "_equal_strides_no_residual": {"context_stride": 2, "use_residual": False},
    "_equal_strides_no_residual_no_attention": {"context_stride": 2, "use_residual": False, "use_attention": False},
    "_no_attention": {"use_attention": False},
}


def fields(size: str, num_classes: int, **more) -> dict:
    labels = dict(enumerate(CLASSES[num_classes]))
    return {
        "hidden_sizes": HIDDEN_SIZES[size],
        "num_labels": num_classes,
        "id2label": labels,
        "label2id": {label: index for index, label in labels.items()},
        **more,
    }


VARIANTS = {
    **{f"audiomer_{size}_sc{count}": fields(size, count) for size in HIDDEN_SIZES for count in CLASSES},
    **{
        f"audiomer_{size}_sc{count}_legacy": fields(size, count, attention_type="self")
        for size in HIDDEN_SIZES
        for count in CLASSES
    },
    **{
        f"audiomer_s_sc12_no_se{name}": fields("s", 12, use_squeeze_excitation=False, **parts)
        for name, parts in ABLATIONS.items()
    },
}


def model_class(fields: dict) -> type[AudiomerForAudioClassification]:
    return AudiomerForAudioClassification


def prepare(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    """Remove Lightning's prefix and give the kernels of squeeze-and-excitation, 1-d convolutions, a second axis.

    `performer.proj_updater`, which decides when random features are redrawn, is left out: in released checkpoints it
    contains a step counter and a second copy of the attention.
    """
    prepared = {}
    for key, tensor in tensors.items():
        if ".performer.proj_updater." not in key:
            is_kernel = ".se." in key and tensor.ndim == 3
            prepared[key.removeprefix("model.")] = tensor[..., None] if is_kernel else tensor
    return prepared


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    inferred = {
        "num_labels": num_labels(tensors, "classifier.3.bias"),
        "use_residual": any(key.startswith("encoder.identity_layers.") for key in tensors),
        "use_attention": any(".performer." in key for key in tensors),
        "use_squeeze_excitation": any(".se." in key for key in tensors),
        "attention_type": "self" if any(".performer.net." in key for key in tensors) else "cross",
    }
    queries = [f"encoder.layers.{layer}.conv.to_q.sep_conv.pointwise.weight" for layer in range(count_layers(tensors))]
    widths = whole([size(tensors, query, 0) for query in queries])
    first = next((key.removesuffix("to_q.weight") for key in tensors if key.endswith(".to_q.weight")), "")
    features = f"{first}fast_attention.projection_matrix"
    up = next((key for key in tensors if re.search(r"layers\.0\.performer\..*\.w1\.weight$", key)), "")
    head_dim = size(tensors, features, 1, 2)
    inferred |= found(
        hidden_sizes=widths,
        kernel_size=size(tensors, "encoder.layers.0.conv.to_q.sep_conv.depthwise.weight", 2, 3),
        head_dim=head_dim,
        num_random_features=size(tensors, features, 0, 2),
        num_attention_heads=ratio(size(tensors, f"{first}to_q.weight", 0, 2), head_dim),
        mlp_ratio=ratio(size(tensors, up, 0, 2), 2 * widths[0] if widths else None),  # half of the rows are the gate
    )
    if inferred["num_labels"] != fields["num_labels"]:  # trained on other words
        inferred |= {"id2label": None, "label2id": None}
    if "encoder.cls_token" in tensors:
        inferred["pooling"] = "class_samples"
    elif fields.get("pooling", "class_samples") == "class_samples":
        inferred["pooling"] = "mean"
    return inferred


def count_layers(tensors: dict[str, torch.Tensor]) -> int:
    return count(tensors, "encoder.layers.") or 0


def transforms(config: AudiomerConfig) -> list:
    renamings = {
        r"^encoder\.cls_token$": "model.class_samples",
        r"^encoder\.identity_layers\.(\d+)\.": r"model.layers.\1.residual.",
        r"^encoder\.layers\.": "model.layers.",
        r"\.conv\.to_q\.": ".query.",
        r"\.conv\.to_context\.": ".context.",
        r"\.sep_conv\.depthwise\.": ".convolution.0.",
        r"\.sep_conv\.bn\.": ".convolution.1.",
        r"\.sep_conv\.pointwise\.": ".convolution.2.",
        r"\.se\.": ".squeeze_excitation.",
        r"\.performer\.net\.layers\.0\.0\.": ".performer.0.attn.",
        r"\.performer\.net\.layers\.0\.1\.fn\.fn\.": ".performer.0.ff.fn.",
        r"\.performer\.net\.layers\.0\.1\.": ".performer.0.ff.",
        r"\.performer\.0\.attn\.g$": ".attention.attention_norm.scale",
        r"\.performer\.0\.ff\.g$": ".attention.mlp_norm.scale",
        r"\.performer\.0\.attn\.fn\.": ".attention.attention.",
        r"\.performer\.0\.ff\.fn\.w1\.": ".attention.mlp.up.",
        r"\.performer\.0\.ff\.fn\.w2\.": ".attention.mlp.down.",
        r"\.fast_attention\.projection_matrix$": ".random_features.projection",
        r"\.to_q\.": ".query.",
        r"\.to_out\.": ".projection.",
    }
    return [
        *(WeightRenaming(old, new) for old, new in renamings.items()),
        WeightConverter([r"\.to_k\.", r"\.to_v\."], ".key_value.", [Concatenate(0)]),
    ]


def processor(variant: str, config: AudiomerConfig):
    """Return the original's preprocessing: resample to 8192 Hz, zero-pad or cut to one second.

    With `truncation=False` the extractor keeps longer clips and pads them to a length that the model takes.
    """
    from hf_vits.processing.audio import VitsWaveformFeatureExtractor

    return VitsWaveformFeatureExtractor(
        sampling_rate=8192,
        padding="max_length",
        max_length=8192,
        truncation=True,
        pad_to_multiple_of=config.length_multiple,
        pad_offset=config.length_offset,
    )
