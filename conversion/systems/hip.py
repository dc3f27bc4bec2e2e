"""Checkpoints of google-deepmind/hierarchical_perceiver: Haiku's parameters, as {module path: {name: array}}.

No weights were published. A tree is that of HiP, of HiPClassBottleneck (blocks `perceiver_block_<i>`) or of Perceiver
IO (one block). Modalities, sizes and the projection of positions are read from the tree. Not in it: the number of
heads, how groups and latents divide the rows of the learned queries, the order of the modalities, and which of them
come together in a batch. The last two are the variant's where its modalities have the same names; else the modalities
are one dataset in alphabetical order. Pass `modalities` (and `datasets`) where that is wrong.

The variants have the modalities of the original's test (perceiver_test.py): two datasets, of images and of sound.
"""

import re

import torch
from transformers.core_model_loading import Concatenate, WeightConverter, WeightRenaming

from hf_vits.models.hip.configuration_hip import IMAGE, WAVEFORM, HipConfig
from hf_vits.models.hip.modeling_hip import HipModel

from ..shared.flax import torch_layout
from ..shared.inference import count, found, ratio, size, whole
from ..shared.preprocessing import stretch

DATASETS = {
    "modalities": [
        ["imagenet_image", 1024, 3],
        ["imagenet_label", 32, 1],
        ["audioset_audio", 128, 16],
        ["audioset_label", 16, 16],
    ],
    "datasets": [["imagenet_image", "imagenet_label"], ["audioset_audio", "audioset_label"]],
}


def blocks(num_groups, num_latents, hidden_sizes, depths, heads, embedding_size, **more) -> dict:
    """Return the fields of a HiP, whose cross-attentions have one head and MLPs of the latents' width."""
    ones = [1] * len(num_groups)
    return DATASETS | {
        "embedding_size": embedding_size,
        "num_groups": num_groups,
        "num_latents": num_latents,
        "hidden_sizes": hidden_sizes,
        "depths": depths,
        "num_attention_heads": heads,
        "num_cross_attention_heads": ones,
        "mlp_ratios": [4 * one for one in ones],
        "cross_mlp_ratios": ones,
        **more,
    }


def perceiver_io(num_latents, hidden_size, depth, heads, cross_heads, mlp_ratio, cross_mlp_ratio) -> dict:
    """Return the fields of a Perceiver IO, which embeds inputs to the width of its latents."""
    sizes = {"num_cross_attention_heads": [cross_heads], "mlp_ratios": [mlp_ratio]}
    sizes |= {"cross_mlp_ratios": [cross_mlp_ratio]}
    # The original's test sets num_position_encoding_channels=512; positions of that width are not projected.
    sizes |= {"use_position_projection": hidden_size != 512}
    return blocks([1], [num_latents], [hidden_size], [depth], [heads], hidden_size, **sizes)


MINI = blocks([16, 1, 16], [128, 64, 128], [128, 1024, 128], [2, 1, 1], [4, 32, 4], 32)
VARIANTS = {
    "hip_mini": MINI,
    "hip_class_bottleneck_mini": MINI | {"label_modalities": ["imagenet_label", "audioset_label"]},
    "hip_16": blocks(
        [16, 4, 1, 1, 1, 4, 16],
        [128, 256, 256, 64, 256, 256, 128],
        [128, 256, 512, 1024, 512, 256, 128],
        [2, 2, 18, 2, 1, 1, 1],
        [4, 8, 16, 32, 16, 8, 4],
        32,
    ),
    "hip_16x3": blocks([16, 1, 16], [128, 256, 128], [128, 1024, 128], [2, 18, 2], [4, 32, 4], 32),
    "hip_256": blocks(
        [256, 64, 16, 4, 1, 1, 1, 4, 16, 64, 256],
        [32, 64, 128, 256, 256, 64, 256, 256, 128, 64, 32],
        [64, 96, 128, 256, 512, 1024, 256, 128, 64, 32, 16],
        [1, 1, 2, 2, 18, 2, 1, 1, 1, 1, 1],
        [1, 2, 4, 8, 16, 32, 16, 8, 4, 2, 1],
        16,
    ),
    "perceiver_io_mini": perceiver_io(128, 128, 2, heads=2, cross_heads=1, mlp_ratio=2, cross_mlp_ratio=1),
    "perceiver_io_c_50m": perceiver_io(1024, 512, 8, heads=8, cross_heads=8, mlp_ratio=4, cross_mlp_ratio=4),
    "perceiver_io_c_150m": perceiver_io(1024, 896, 12, heads=16, cross_heads=16, mlp_ratio=4, cross_mlp_ratio=4),
}
# Haiku's names of parameters, and the names by which Flax's layouts are known.
LEAVES = {"w": "kernel", "b": "bias", "offset": "bias", "scale": "scale", "pos_embs": "pos_embs"}
# Read-outs of HiPClassBottleneck, and of HiP.
BOTTLENECK = {"reconstruction_head": "label_reconstruction_head", "reconstruction_head_1": "reconstruction_head"}
EMBED = re.compile(r"embedder(_\d+)?\.embed\.embed_(.+)\.weight")


def model_class(fields: dict) -> type[HipModel]:
    return HipModel


def prepare(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    """Return the tensors without the name of the outermost module, in torch's layout.

    What follows a ":" in the name of a parameter is dropped. `~`, which marks modules that a constructor made, is
    dropped as well. HiPClassBottleneck has a prefix of its blocks, and makes the read-out of labels first, also where
    there are no labels: its names become those of HiP.
    """
    prepared: dict[str, torch.Tensor] = {}
    is_bottleneck = any("/perceiver_block_" in key for key in tensors)
    for key, tensor in tensors.items():
        *path, leaf = key.split(":")[0].split("/")
        path = [part.removeprefix("~") for part in path[1:] if part != "~"]
        if path and is_bottleneck:
            path[0] = BOTTLENECK.get(path[0], path[0].removeprefix("perceiver_"))
        name = "/".join([*path, LEAVES.get(leaf, leaf)])
        if name in prepared:
            raise ValueError(f"the checkpoint does not fit: {key} and another tensor are both {name}")
        prepared[name] = tensor
    return torch_layout(prepared)


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    middle = (count(tensors, "block_") or 1) // 2
    sizes, labels = {}, []
    for key, tensor in tensors.items():
        if (match := EMBED.fullmatch(key)) and tensor.ndim == 2:
            encoder = f"position_encoder{match[1] or ''}.pos_emb_mae_{match[2]}.pos_embs"
            sizes[match[2]] = [size(tensors, encoder, 0, 2), tensor.shape[1]]
            labels += [match[2]] if match[1] else []
    inferred = {"use_position_projection": any("position_encoding_linear" in key for key in tensors)}
    inferred |= found(embedding_size=embedding_size(tensors)) | block_sizes(tensors)
    names = [name for name, *_ in fields["modalities"]] if isinstance(fields["modalities"], list) else []
    if sizes and all(length for length, _ in sizes.values()):
        order = names if set(names) == set(sizes) else sorted(sizes)
        datasets = fields.get("datasets") or []
        inferred["modalities"] = [[name, *sizes[name]] for name in order]
        inferred["datasets"] = datasets if {name for dataset in datasets for name in dataset} == set(sizes) else None
        inferred["label_modalities"] = [name for name in order if name in labels]
    if middle != len(fields["num_groups"]) // 2:
        inferred.pop("hidden_sizes", None)  # another variant's: loading lists the blocks that do not fit
    return inferred


def embedding_size(tensors: dict[str, torch.Tensor]) -> int | None:
    """Return the width to which the modalities that are no labels are embedded."""
    keys = [key for key in tensors if (match := EMBED.fullmatch(key)) and not match[1]]
    return size(tensors, keys[0], 0, 2) if keys else None


def block_sizes(tensors: dict[str, torch.Tensor]) -> dict:
    """Return the fields of the blocks that follow from the tensors."""
    names = [f"block_{index}." for index in range(count(tensors, "block_") or 0)]
    widths = [size(tensors, f"{name}hi_p_cross_attention.query_inputs.pos_embs", 1, 2) for name in names]
    cross = [size(tensors, f"{name}hi_p_cross_attention.dense.mlp_hidden_linear.weight", 0, 2) for name in names]
    return found(
        hidden_sizes=whole(widths),
        depths=whole([depth(tensors, name) for name in names]),
        cross_mlp_ratios=whole([ratio(up, width) for up, width in zip(cross, widths, strict=True)]),
    )


def depth(tensors: dict[str, torch.Tensor], block: str) -> int:
    """Return the number of self-attention layers of a block, whose keys begin with `block`."""
    return count(tensors, f"{block}self_attend_id_") or 0


def transforms(config: HipConfig) -> list:
    middle = config.processor_index
    renamings = {}
    for index in range(config.num_hidden_layers):
        place = f"encoder.{index}." if index <= middle else f"decoder.{index - middle - 1}."
        renamings[rf"^block_{index}\."] = place
    renamings |= {
        r"\.hi_p_cross_attention\.query_inputs\.pos_embs": ".queries.weight",
        r"\.hi_p_cross_attention\.pre_attention_residual_linear\.": ".skip_projection.",
        r"\.self_attend_id_(\d+)\.layer_norm\.": r".layers.\1.attention_norm.",
        r"\.self_attend_id_(\d+)\.layer_norm_1\.": r".layers.\1.mlp_norm.",
        r"\.self_attend_id_": ".layers.",
        r"\.hi_p_cross_attention\.layer_norm\.": ".cross_attention.query_norm.",
        r"\.hi_p_cross_attention\.layer_norm_1\.": ".cross_attention.input_norm.",
        r"\.hi_p_cross_attention\.layer_norm_2\.": ".cross_attention.mlp_norm.",
        r"\.hi_p_cross_attention\.": ".cross_attention.",
        r"\.dense\.mlp_hidden_linear\.": ".mlp.up.",
        r"\.dense\.mlp_output_linear\.": ".mlp.down.",
        r"\.attention_output_linear\.": ".projection.",
        r"\.cross_attention\.attention\.query_linear\.": ".cross_attention.attention.query.",
        r"^embedder\.embed\.embed_([\w-]+)\.": r"embeddings.modalities.\1.projection.",
        r"^embedder_\d+\.embed\.embed_([\w-]+)\.": r"label_embeddings.modalities.\1.projection.",
        r"^position_encoder\.pos_emb_mae_([\w-]+)\.pos_embs": r"embeddings.modalities.\1.position_embedding.weight",
        r"^position_encoder_\d+\.pos_emb_mae_([\w-]+)\.pos_embs": (
            r"label_embeddings.modalities.\1.position_embedding.weight"
        ),
        r"^position_encoder\.position_encoding_linear\.": "embeddings.position_projections.0.",
        r"^position_encoder\.position_encoding_linear_": "embeddings.position_projections.",
        r"^embedder\.unembed\.unembed_": "reconstruction.projections.",
        r"^embedder_\d+\.unembed\.unembed_": "label_reconstruction.projections.",
        r"^label_reconstruction_head\.": "label_reconstruction.",
        r"^reconstruction_head\.": "reconstruction.",
    }
    key, value, query = (rf"\.attention\.{name}_linear\." for name in ("key", "value", "query"))
    return [
        *(WeightRenaming(old, new) for old, new in renamings.items()),
        WeightConverter(
            [rf"\.cross_attention{key}", rf"\.cross_attention{value}"],
            ".cross_attention.attention.key_value.",
            [Concatenate(0)],
        ),
        WeightConverter([query, key, value], ".attention.qkv.", [Concatenate(0)]),
    ]


def processor(variant: str, config: HipConfig):
    """Return the processor of a model whose first modality is an image or a waveform; None for any other.

    Images are stretched to the model's size, waveforms of 16 kHz padded with zeros or cut to its length: the original
    has no preprocessing.
    """
    first = config.modalities[0][0]
    if first == IMAGE:
        if config.image_size is None:
            raise ValueError(f"images of {config.sizes[IMAGE][0]} pixels are not square: make the processor yourself")
        return stretch(config.image_size)
    if first == WAVEFORM:
        from hf_vits.processing.audio import VitsWaveformFeatureExtractor

        return VitsWaveformFeatureExtractor(
            sampling_rate=16000, padding="max_length", max_length=config.padded_length(0), truncation=True
        )
    return None
