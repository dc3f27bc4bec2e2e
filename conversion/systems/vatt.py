"""TensorFlow checkpoints of google-research/vatt: fine-tuned classifiers, and whole pre-trained models.

Keys are the object paths of TensorFlow's checkpoints. Sizes, depths, tubelets, the lengths of the position tables and
whether one encoder is shared are read from the file; heads always have 64 channels. For another `image_size`,
`num_frames` or `num_samples`, position tables are resized by the original's spline. The published files are named
after the variant, and pretrained ones after the sizes of video, audio and text: Base, Medium, Large and Small.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from transformers.core_model_loading import WeightRenaming

from hf_vits.models.vatt.configuration_vatt import VattConfig
from hf_vits.models.vatt.configuration_vatt_audio import VattAudioConfig
from hf_vits.models.vatt.configuration_vatt_video import VattVideoConfig
from hf_vits.models.vatt.modeling_vatt import VattForPreTraining
from hf_vits.models.vatt.modeling_vatt_audio import VattForAudioClassification
from hf_vits.models.vatt.modeling_vatt_video import VattForVideoClassification

from ..shared.inference import count, found, num_labels, size
from ..shared.preprocessing import scenic_clips

HEAD_SIZE = 64
WINDOW_LENGTH, HOP_LENGTH = 2048, 1024
MEDIUM = {"hidden_size": 1024, "num_hidden_layers": 12, "num_attention_heads": 16, "intermediate_size": 4096}
LARGE = MEDIUM | {"num_hidden_layers": 24}
PROJECTED = {"pre_projection": True, "post_projection_size": 1024}
# DropToken of pre-training
HALF = {"kept_token_fraction": 0.5}
FINE_TUNED = {"image_size": 320}


def video(num_labels: int, **fields) -> dict[str, Any]:
    return {"tubelet_size": [4, 16, 16], **FINE_TUNED, **fields, "num_labels": num_labels}


def audio(**fields) -> dict[str, Any]:
    return {"input_type": "waveform", **fields, "num_labels": 527, "problem_type": "multi_label_classification"}


def pretrained(video: dict, audio: dict, text: dict, **fields) -> dict[str, Any]:
    return {
        "video_config": {"model_type": "hf_vits_vatt_video", **video, **HALF},
        "audio_config": {"model_type": "hf_vits_vatt_audio", **audio, **HALF},
        "text_config": {"model_type": "hf_vits_vatt_text", **text},
        **fields,
    }


SHARED = MEDIUM | PROJECTED
VARIANTS = {
    "vit_base_k400": video(400),
    "vit_base_k600": video(600),
    "vit_base_mit": video(339),
    "vit_medium_k400": video(400, **MEDIUM),
    "vit_medium_k600": video(600, **MEDIUM),
    "vit_medium_mit": video(339, **MEDIUM),
    "vit_large_k400": video(400, **LARGE),
    "vit_large_k600": video(600, **LARGE),
    "vit_large_k700": video(700, **LARGE),
    "vit_large_mit": video(339, **LARGE),
    "vit_agnostic_medium_k400": video(400, **SHARED),
    "vit_agnostic_medium_k600": video(600, **SHARED),
    "vit_agnostic_medium_mit": video(339, **SHARED),
    "wat_base_audioset": audio(),
    "wat_agnostic_medium_audioset": audio(**SHARED),
    "spt_base_audioset": audio(input_type="spectrogram", patch_size=[16, 5], use_bias=False),
    "tx_fac_bbs": pretrained({}, {}, {}),
    "tx_fac_mbs": pretrained(MEDIUM, {}, {}),
    "tx_fac_lbs": pretrained(LARGE, {}, {}),
    "ut_fac_medium": pretrained(
        SHARED,
        SHARED,
        SHARED | {"use_bias": True, "position_embedding_type": "absolute"},
        shared_encoder=True,
    ),
}

ROOT = re.compile(r"^(?:model/)?layer_with_weights-0/")
SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
# {encoder: the original's name of it in a checkpoint with an encoder for each modality}
SPECIFIC = {
    "video_model.": "_base_layer/vid_backbone/_base/",
    "audio_model.": "_base_layer/aud_backbone/_base/",
    "text_model.": "_base_layer/txt_backbone/",
}
AGNOSTIC = "_base_layer/unified_backbone/unified_transformer/"
MODALITIES = {"video": "vid", "audio": "aud", "text": "txt"}
AXES = ("temporal", "vertical", "horizontal")


def model_class(fields: dict) -> type:
    if "video_config" in fields:
        return VattForPreTraining
    return VattForVideoClassification if "tubelet_size" in fields else VattForAudioClassification


def object_paths(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors below the model's root, without what the optimizer and the checkpoint add."""
    paths = {}
    for key, tensor in tensors.items():
        key = key.removesuffix(SUFFIX)
        if ROOT.match(key) and "/.OPTIMIZER_SLOT/" not in key:
            paths[ROOT.sub("", key)] = tensor
    return paths or dict(tensors)


def prepare(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    """Return tensors of torch's layout under dotted keys, with queries, keys and values joined."""
    tensors = object_paths(tensors)
    for name, short in MODALITIES.items():
        # A shared encoder's parts have the modality at the end: "pre_proj/video/kernel", "vid_agg_embedding".
        for part in ("raw_to_embeddings", "pre_proj", "post_proj", "pos_embedding_lookup"):
            tensors = renamed(tensors, f"{AGNOSTIC}{part}/{name}/", f"{name}_model/{part}/")
        tensors = renamed(tensors, f"{AGNOSTIC}{short}_agg_embedding", f"{name}_model/agg_embedding")
    tensors = renamed(tensors, f"{AGNOSTIC}tx/", "tx/")
    for ours, theirs in SPECIFIC.items():
        tensors = renamed(tensors, theirs, ours.replace(".", "/"))
    tensors = renamed(tensors, "_head_layer/_bridge_heads/0/", "projections/")
    dotted = {key.replace("/", "."): torch_layout(key, tensor) for key, tensor in tensors.items()}
    return with_counters(joined(dotted))


def renamed(tensors: dict[str, torch.Tensor], start: str, new: str) -> dict[str, torch.Tensor]:
    """Return the tensors with keys that begin with `start` beginning with `new` instead."""
    return {
        f"{new}{key.removeprefix(start)}" if key.startswith(start) else key: value for key, value in tensors.items()
    }


def torch_layout(key: str, tensor: torch.Tensor) -> torch.Tensor:
    """Return a kernel with the output axis first, the input axis second; a table of positions as (1, n, channels)."""
    if key.endswith("/kernel") and tensor.ndim > 1:
        return tensor.permute(-1, -2, *range(tensor.ndim - 2)).contiguous()
    return tensor[None] if key.endswith("position_embeddings/embeddings") else tensor


def joined(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors with the queries', keys' and values' kernels and biases concatenated, under ".qkv."."""
    merged = {}
    for key, tensor in tensors.items():
        if match := re.match(r"(.*\.(?:mha|attention)\.)([qkv])(\.(?:kernel|bias))$", key):
            parts = [tensors.get(f"{match[1]}{part}{match[3]}") for part in "qkv"]
            if all(part is not None for part in parts):
                merged[f"{match[1]}qkv{match[3]}"] = torch.cat([part for part in parts if part is not None])
                continue
        merged[key] = tensor
    return merged


def with_counters(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors with PyTorch's counter of batches for each batch norm, which Keras does not have."""
    norms = [key.removesuffix("moving_mean") for key in tensors if key.endswith(".moving_mean")]
    return tensors | {f"{norm}num_batches_tracked": torch.zeros((), dtype=torch.long) for norm in norms}


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    if "video_config" in fields:
        return {
            **{
                f"{name}_config": infer_part(tensors, f"{name}_model.", fields[f"{name}_config"])
                for name in MODALITIES
            },
            **found(
                video_audio_size=size(tensors, "projections.aud_to_va.kernel"),
                video_text_size=size(tensors, "projections.txt_to_vat.kernel"),
            ),
            "shared_encoder": "tx.final_layer_norm.gamma" in tensors,
        }
    part = infer_part(tensors, "_base.", fields)
    return part | {"num_labels": num_labels(tensors, "_ops.cls.bias")}


def infer_part(tensors: dict[str, torch.Tensor], prefix: str, fields: dict) -> dict:
    """Return the fields of an encoder whose keys begin with `prefix`, or of a shared encoder."""
    encoder = next((start for start in (f"{prefix}tx.", f"{prefix}base_lm.", "tx.") if has(tensors, start)), prefix)
    layer = f"{encoder}layers.0."
    attention = next((name for name in ("mha.", "self_attention.attention.") if has(tensors, layer + name)), "mha.")
    heads = size(tensors, f"{layer}{attention}o.kernel", 1)
    inferred = found(
        hidden_size=size(tensors, f"{layer}{attention}o.kernel"),
        num_attention_heads=None if heads is None else max(heads // HEAD_SIZE, 1),
        num_hidden_layers=count(tensors, f"{encoder}layers."),
        intermediate_size=size(tensors, f"{layer}feed_forward.mlp.wi.kernel"),
        post_projection_size=size(tensors, f"{prefix}post_proj.kernel"),
    )
    if has(tensors, layer):
        inferred["use_bias"] = f"{layer}{attention}o.bias" in tensors
        inferred["pre_projection"] = f"{prefix}pre_proj.kernel" in tensors
    return inferred | infer_input(tensors, prefix, fields)


def has(tensors: dict[str, torch.Tensor], start: str) -> bool:
    return any(key.startswith(start) for key in tensors)


def infer_input(tensors: dict[str, torch.Tensor], prefix: str, fields: dict) -> dict:
    """Return the fields of the embeddings: sizes of patches, and of the inputs that the position tables are for."""
    positions = f"{prefix}pos_embedding_lookup."
    lengths = {
        axis: size(tensors, f"{positions}{axis}_position_embeddings.embeddings", 1) for axis in (*AXES, "spectoral")
    }
    kernels = (f"{prefix}{name}.kernel" for name in PATCHES)
    kernel = next((tensors[key] for key in kernels if key in tensors), None)
    sides = [] if kernel is None else list(kernel.shape[2:])
    time = lengths["temporal"]
    if len(sides) == 3 and None not in (time, lengths["vertical"], lengths["horizontal"]):
        height, width = (lengths[axis] * side for axis, side in zip(AXES[1:], sides[1:], strict=True))
        return {
            "num_channels": kernel.shape[1],
            "tubelet_size": sides,
            "num_frames": time * sides[0],
            "image_size": height if height == width else [height, width],
        }
    if len(sides) == 2 and None not in (time, lengths["spectoral"]):
        # The original's spectrograms have a few more frames than fill its patches.
        frames, bins = fields.get("num_frames", VattAudioConfig.num_frames), lengths["spectoral"] * sides[1]
        frames = frames if frames // sides[0] == time else time * sides[0]
        return {"input_type": "spectrogram", "patch_size": sides, "num_frames": frames, "num_mel_bins": bins}
    if len(sides) == 1 and time is not None:
        return {"input_type": "waveform", "patch_size": sides[0], "num_samples": time * sides[0]}
    words = next((tensors[key] for key in (f"{prefix}{name}.embeddings" for name in WORDS) if key in tensors), None)
    if words is None:
        return {}
    inferred = {"vocab_size": words.shape[0], "embedding_size": words.shape[1]}
    biases = f"{prefix}base_lm.layers.0.self_attention.attention.relative_attention_bias.embeddings"
    if biases in tensors:
        return inferred | {"relative_attention_num_buckets": len(tensors[biases])}
    return inferred | found(max_position_embeddings=time)


# Names of the embeddings; in a file with a shared encoder, the last.
PATCHES = ("voxel_to_patch", "wave_to_patch", "spectrum_to_patch", "raw_to_embeddings")
WORDS = ("embedding", "raw_to_embeddings")


def transforms(config: VattConfig | VattVideoConfig | VattAudioConfig) -> list[WeightRenaming]:
    renamings = {
        r"^_ops\.cls\.": "classifier.",
        r"^_base\.": "model.",
        r"^(video_model|audio_model|text_model|projections|tx)\.": r"model.\1.",
        r"^model\.tx\.": "model.encoder.",
        r"\.agg_embedding$": ".embeddings.aggregation_token",
        rf"\.({'|'.join(PATCHES[:3])})\.": ".embeddings.patch_embedding.projection.",
        r"(video_model|audio_model)\.raw_to_embeddings\.": r"\1.embeddings.patch_embedding.projection.",
        r"text_model\.(?:embedding|raw_to_embeddings)\.embeddings$": "text_model.embeddings.patch_embedding.weight",
        r"\.pre_proj\.": ".embeddings.pre_projection.",
        r"\.post_proj\.": ".post_projection.",
        r"\.pos_embedding_lookup\.temporal_position_embeddings\.embeddings$": f".{TABLES}.0.table",
        r"\.pos_embedding_lookup\.(?:vertical|spectoral)_position_embeddings\.embeddings$": f".{TABLES}.1.table",
        r"\.pos_embedding_lookup\.horizontal_position_embeddings\.embeddings$": f".{TABLES}.2.table",
        r"\.pos_embedding_lookup\.layernorm\.": ".embeddings.position_embedding.norm.",
        r"\.layers\.0\.self_attention\.attention\.relative_attention_bias\.embeddings$": f".{BIASES}",
        r"\.(?:tx|base_lm)\.": ".encoder.",
        r"\.final_layer_norm\.": ".norm.",
        r"\.self_attention\.layer_norm\.": ".attention_norm.",
        r"\.feed_forward\.layer_norm\.": ".mlp_norm.",
        r"(\.layers\.\d+)\.layer_norm\.": r"\1.attention_norm.",
        r"\.(?:mha|self_attention\.attention)\.": ".attention.",
        r"\.attention\.o\.": ".attention.projection.",
        r"\.feed_forward\.mlp\.wi\.": ".mlp.up.",
        r"\.feed_forward\.mlp\.wo\.": ".mlp.down.",
        r"\.vid_to_hid\.": ".video_to_audio.0.",
        r"\.hid_to_va\.pre_bn\.": ".video_to_audio.1.",
        r"\.hid_to_va\.dense\.": ".video_to_audio.3.",
        r"\.hid_to_va\.bn\.": ".video_to_audio.4.",
        r"\.va_to_vat\.dense\.": ".video_to_text.1.",
        r"\.va_to_vat\.bn\.": ".video_to_text.2.",
        r"\.aud_to_va\.": ".audio.",
        r"\.txt_to_vat\.": ".text.",
        r"\.(?:kernel|gamma)$": ".weight",
        r"\.beta$": ".bias",
        r"\.moving_mean$": ".running_mean",
        r"\.moving_variance$": ".running_var",
    }
    return [WeightRenaming(old, new) for old, new in renamings.items()]


TABLES = "embeddings.position_embedding.tables"
BIASES = "relative_bias.biases.weight"


def processor(variant: str, config) -> Any:
    """Return what prepares clips or sounds as in fine-tuning; for a pre-trained model, both and words.

    The vocabulary is word2vec's, which is not published with the checkpoints: the tokenizer of the pre-trained models
    knows no words but "word1", "word2" and so on. Make one with `VattTokenizer.of_words`.
    """
    if isinstance(config, VattConfig):
        from hf_vits.processing.vatt import VattProcessor, VattTokenizer

        text = config.text_config
        words = (f"word{index}" for index in range(1, text.vocab_size))
        tokenizer = VattTokenizer.of_words(words, text.max_position_embeddings)
        return VattProcessor(clips(config.video_config, 1), sounds(config.audio_config, 48_000), tokenizer)
    return clips(config, 2) if isinstance(config, VattVideoConfig) else sounds(config, 24_000)


def clips(config: VattVideoConfig, sampling_rate: int):
    """Return the processor of clips, which takes every `sampling_rate`-th frame."""
    size = config.image_size
    return scenic_clips(size, config.num_frames, sampling_rate, size if isinstance(size, int) else min(size))


def sounds(config: VattAudioConfig, sampling_rate: int):
    """Return the feature extractor of waveforms at `sampling_rate` in Hz, or of spectrograms, always at 48 kHz."""
    from hf_vits.processing.audio import VitsSpectrogramFeatureExtractor, VitsWaveformFeatureExtractor

    if config.input_type == "waveform":
        length = {"padding": "max_length", "max_length": config.num_samples, "truncation": True}
        return VitsWaveformFeatureExtractor(sampling_rate=sampling_rate, **length)
    return VitsSpectrogramFeatureExtractor(
        feature_size=config.num_mel_bins,
        sampling_rate=48_000,
        n_fft=WINDOW_LENGTH,
        hop_length=HOP_LENGTH,
        center=False,
        periodic=True,
        power=1.0,
        mel_scale="kaldi",  # triangular in mel, as TensorFlow's
        mel_norm=None,
        min_frequency=80.0,
        max_frequency=7600.0,
        log_offset=1e-4,  # up to a constant, which the normalisation takes away, log(1 + 10000 x)
        normalization="min_max",
        padding="max_length",
        max_length=(config.num_frames - 1) * HOP_LENGTH + WINDOW_LENGTH,
        truncation=True,
        pad_with_silence=True,
        return_attention_mask=False,
    )
