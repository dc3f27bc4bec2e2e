"""Models of espnet/espnet with a Branchformer encoder (`*.pth`, a plain state dict).

Read from the file: whether the model has a CTC head or a linear decoder that classifies, the statistics of its front
end, and the sizes and options of its encoder. Not in the file: number of heads of absolute attention, positions,
activation of the gate, fixed merge weights, and the tokens. They are in the config.yaml beside it, which
`shared/espnet.py` reads (`original_fields`, and `recipe` of `processor`).

A transformer decoder beside CTC is left out unless `decoder_layers`, its number of layers, is given: the result is
then the hybrid model.
"""

import re

import torch
from transformers.audio_utils import mel_filter_bank
from transformers.core_model_loading import Concatenate, WeightConverter, WeightRenaming

from hf_vits.models.branchformer.configuration_branchformer import BranchformerConfig
from hf_vits.models.branchformer.modeling_branchformer import (
    BranchformerForAudioClassification,
    BranchformerForCTC,
)
from hf_vits.models.branchformer.modeling_branchformer_seq2seq import BranchformerForSpeechSeq2Seq
from hf_vits.models.branchformer.subsampling_windows_branchformer import CONVOLUTIONS, convolved_length
from hf_vits.processing.audio import VitsSpectrogramFeatureExtractor
from hf_vits.processing.speech import VitsSpeechProcessor

from ..shared import espnet
from ..shared.espnet import SAMPLING_RATE
from ..shared.inference import size

# Encoder and front end: arXiv 2207.02971, table 8, and the recipes in egs2. Every decoder has 6 layers.
SMALL = {"hidden_size": 256, "num_hidden_layers": 24, "num_attention_heads": 4, "intermediate_size": 2048}
LARGE = {"hidden_size": 512, "num_hidden_layers": 18, "num_attention_heads": 8, "intermediate_size": 3072}
AISHELL = {**SMALL, "vocab_size": 4233, "n_fft": 512, "hop_length": 128}
LIBRISPEECH = {**LARGE, "vocab_size": 5000, "n_fft": 512}
SLURP = {**LARGE, "n_fft": 512, "hop_length": 128}

VARIANTS = {
    "aishell_e24": AISHELL,
    "aishell_e24_learned_average": {**AISHELL, "merge_method": "learned_average"},
    "aishell_e24_fastformer": {**AISHELL, "attention_type": "fast", "position_embedding_type": "absolute"},
    "switchboard_e24": {**SMALL, "vocab_size": 2000, "n_fft": 400, "hop_length": 160},
    "librispeech_e22": {**LIBRISPEECH, "num_hidden_layers": 22, "intermediate_size": 2048, "hop_length": 256},
    "librispeech_e18": {**LIBRISPEECH, "hop_length": 160},
    "slurp_intent_e18": SLURP,
    "slurp_entity_e18": {**SLURP, "intermediate_size": 2048, "vocab_size": 500},
    "speech_commands_e24": {**SMALL, "n_fft": 400, "hop_length": 160, "num_labels": 35},
}

DECODER = {
    r"^decoder\.embed\.0\.": "decoder.embeddings.",
    r"^decoder\.decoders\.": "decoder.layers.",
    r"^decoder\.after_norm\.": "decoder.norm.",
    r"^decoder\.output_layer\.": "decoder.head.",
    r"\.self_attn\.": ".attention.",
    r"\.src_attn\.linear_q\.": ".cross_attention.query.",
    r"\.src_attn\.": ".cross_attention.",
    r"\.norm1\.": ".attention_norm.",
    r"\.norm2\.": ".cross_attention_norm.",
    r"\.norm3\.": ".mlp_norm.",
    r"\.feed_forward\.w_1\.": ".mlp.up.",
    r"\.feed_forward\.w_2\.": ".mlp.down.",
}


def original_fields(recipe: dict, overrides: dict) -> dict:
    """Return the configuration fields in ESPnet's config.yaml; the decoder's only if `overrides` ask for one."""
    fields = espnet.model_fields(recipe)
    if espnet.classifies(recipe):
        return fields | espnet.class_fields(recipe)
    return fields | (espnet.decoder_fields(recipe) if overrides.get("decoder_layers") else {})


def model_class(fields: dict) -> type:
    if fields.get("decoder_layers"):
        return BranchformerForSpeechSeq2Seq
    return BranchformerForCTC if "vocab_size" in fields else BranchformerForAudioClassification


def prepare(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    """Rename older keys of ESPnet, drop position tables, and put the front end's sizes and statistics into `fields`.

    Left out are a CTC head beside a linear decoder, since it is untrained, and a decoder that was not asked for.
    """
    fields |= front_end_fields(tensors)
    left_out = r"frontend\.|normalize\.|.*\.pe$"
    if "decoder.linear_out.weight" in tensors:
        fields.pop("vocab_size", None)
        left_out += r"|ctc\."
    elif not fields.get("decoder_layers"):
        left_out += r"|decoder\."
    kept = {key: tensor for key, tensor in tensors.items() if not re.match(left_out, key)}
    return {one_layout(key): tensor for key, tensor in kept.items()}


def one_layout(key: str) -> str:
    """Return the key of ESPnet's present layout for a key of any of its layouts."""
    key = re.sub(r"^encoder\.embed\.out\.(?=weight|bias)", "encoder.embed.out.0.", key)
    return re.sub(r"^encoder\.embed\.(out\.1|\d|pos_enc)\.alpha$", "encoder.embed.alpha", key)


def front_end_fields(tensors: dict[str, torch.Tensor]) -> dict:
    """Return sizes and statistics of the front end; ValueError for mel filters that we do not have."""
    found = {}
    filters = tensors.get("frontend.logmel.melmat")
    if filters is not None:
        if filters.ndim != 2 or not filters.numel():
            raise ValueError(
                f"the checkpoint does not fit: frontend.logmel.melmat must be (frequencies, mel bins), found shape "
                f"{tuple(filters.shape)}"
            )
        found |= {"n_fft": 2 * (len(filters) - 1), "num_mel_bins": filters.shape[-1]}
        num_bins, num_filters = filters.shape
        expected = mel_filter_bank(num_bins, num_filters, 0.0, SAMPLING_RATE / 2, SAMPLING_RATE, "slaney", "slaney")
        if not torch.allclose(filters.double(), torch.from_numpy(expected), atol=1e-5):
            raise ValueError(
                f"the checkpoint's mel filters, frontend.logmel.melmat, are not Slaney's for {SAMPLING_RATE} Hz, from "
                "0 Hz to half of that, the only ones that the feature extractor has"
            )
    for name, field in (("mean", "mel_mean"), ("std", "mel_standard_deviation")):
        if f"normalize.{name}" in tensors:
            found[field] = tensors[f"normalize.{name}"].flatten().tolist()
    return found


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    layers = layers_of(tensors, "encoder.encoders")
    inferred = {"num_hidden_layers": len(layers)} if layers else {}
    return (
        inferred
        | sizes(tensors, {"encoder.after_norm.bias": "hidden_size"})
        | infer_layers(layers)
        | infer_input(tensors, fields)
        | infer_heads(tensors)
    )


def sizes(tensors: dict[str, torch.Tensor], names: dict[str, str]) -> dict:
    """Return {field: length} for {key: field}, for each key that is a tensor with one axis and not empty."""
    found = ((field, tensors.get(key)) for key, field in names.items())
    return {field: len(one) for field, one in found if one is not None and one.ndim == 1 and one.numel()}


def layers_of(tensors: dict[str, torch.Tensor], prefix: str) -> list[dict[str, torch.Tensor]]:
    """Return {key inside the layer: tensor} of each layer."""
    layers: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        if match := re.match(rf"{re.escape(prefix)}\.(\d+)\.(.+)", key):
            layers.setdefault(int(match[1]), {})[match[2]] = tensor
    return [layers[index] for index in sorted(layers)]


def infer_layers(layers: list[dict[str, torch.Tensor]]) -> dict:
    """Return the branches, how they are merged, and the sizes inside them."""
    inferred, together = {}, {name: tensor for layer in layers for name, tensor in layer.items()}
    branches = [one_of(any_of(layer, "attn."), any_of(layer, "cgmlp.")) for layer in layers]
    if None not in branches and branches:
        inferred["branches"] = branches[0] if len(set(branches)) == 1 else branches
    merge = together.get("merge_proj.weight")
    if "pooling_proj1.weight" in together:
        inferred["merge_method"] = "learned_average"
    elif merge is None or merge.ndim != 2 or merge.shape[1] != len(merge):
        inferred["merge_method"] = "concat"
    elif "both" in branches or inferred.get("branches") is not None:
        inferred["merge_method"] = "fixed_average"
    inferred |= sizes(together, {"cgmlp.channel_proj1.0.bias": "intermediate_size"})
    inferred["use_gate_linear"] = "cgmlp.csgu.linear.weight" in together
    if (kernel := size(together, "cgmlp.csgu.conv.weight", 2, 3)) is not None and kernel % 2:
        inferred["conv_depthwise_kernel_size"] = kernel
    if any_of(together, "attn."):
        inferred |= infer_attention(together)
    return inferred


def any_of(tensors: dict[str, torch.Tensor], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in tensors)


def one_of(has_attention: bool, has_mlp: bool) -> str | None:
    """Return our name for the branches of a layer; None if it has none."""
    names = {(True, True): "both", (True, False): "attention", (False, True): "mlp"}
    return names.get((has_attention, has_mlp))


def infer_attention(layer: dict[str, torch.Tensor]) -> dict:
    kind = "fast" if "attn.query_att.bias" in layer else "softmax"
    inferred = {"attention_type": kind, "qk_norm": "attn.q_norm.weight" in layer}
    if (bias := layer.get("attn.pos_bias_u")) is not None and bias.ndim == 2 and bias.numel():
        inferred["num_attention_heads"] = len(bias)
    return inferred | sizes(layer, {"attn.query_att.bias": "num_attention_heads"})


def infer_input(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    """Return the type of the input layer and of the positions."""
    inferred, position = {}, fields.get("position_embedding_type", "relative")
    is_relative = any(key.endswith(".attn.pos_bias_u") for key in tensors)
    if "encoder.embed.alpha" in tensors:
        inferred["position_embedding_type"] = "scaled_absolute"
    elif not is_relative and position.endswith("relative") and any(".attn." in key for key in tensors):
        inferred["position_embedding_type"] = "absolute"
    if (bins := size(tensors, "encoder.embed.0.weight", 1, 2)) is not None:
        inferred |= {"input_layer": "linear", "num_mel_bins": bins}
    elif (weight := tensors.get("encoder.embed.out.0.weight")) is not None and weight.ndim == 2:
        inferred |= infer_convolutions(tensors, weight, fields.get("num_mel_bins", BranchformerConfig.num_mel_bins))
    return inferred


def infer_convolutions(tensors: dict[str, torch.Tensor], projection: torch.Tensor, bins: int) -> dict:
    """Return `input_layer`, by the kernels and by the number of mel bins left after them; {} if none fits.

    Args:
        projection: weight (hidden_size, hidden_size * bins left) of the linear layer after the convolutions.
        bins: number of mel bins of the input.
    """
    kernels = []
    while (kernel := size(tensors, f"encoder.embed.conv.{2 * len(kernels)}.weight", 3, 4)) is not None:
        kernels.append(kernel)
    for name, windows in CONVOLUTIONS.items():
        if [side for side, _ in windows] == kernels and convolved_length(name, bins) * len(
            projection
        ) == projection.shape[1]:
            return {"input_layer": name}
    return {}


def infer_heads(tensors: dict[str, torch.Tensor]) -> dict:
    inferred = sizes(tensors, {"ctc.ctc_lo.bias": "vocab_size", "decoder.linear_out.bias": "num_labels"})
    if decoder := layers_of(tensors, "decoder.decoders"):
        inferred |= {"decoder_layers": len(decoder)} | sizes(decoder[0], {"feed_forward.w_1.bias": "decoder_ffn_dim"})
    return inferred


def transforms(config: BranchformerConfig) -> list:
    """Return the transforms to our keys; they can be reversed."""
    input_layer = "subsampling" if config.input_layer == "linear" else "subsampling.projection"
    renamings = {
        r"^decoder\.linear_out\.": "classifier.",
        **DECODER,
        r"^encoder\.embed\.alpha$": "model.embeddings.position_scale",
        r"^encoder\.embed\.conv\.": "model.embeddings.subsampling.convolutions.",
        r"^encoder\.embed\.out\.0\.": f"model.embeddings.{input_layer}.",
        r"^encoder\.embed\.": f"model.embeddings.{input_layer}.",
        r"^encoder\.encoders\.": "model.layers.",
        r"^encoder\.after_norm\.": "model.norm.",
        r"\.norm_final\.": ".norm.",
        r"\.norm_mha\.": ".attention_branch.norm.",
        r"\.norm_mlp\.": ".mlp_branch.norm.",
        r"\.attn\.": ".attention_branch.attention.",
        r"\.linear_pos\.": ".distance.",
        r"\.pos_bias_u": ".content_bias",
        r"\.pos_bias_v": ".distance_bias",
        r"\.q_norm\.": ".query_norm.",
        r"\.k_norm\.": ".key_norm.",
        r"\.linear_out\.": ".projection.",
        r"\.query_att\.": ".query_score.",
        r"\.key_att\.": ".key_score.",
        r"\.transform\.": ".projection.",
        r"\.cgmlp\.channel_proj1\.0\.": ".mlp_branch.mlp.up.",
        r"\.cgmlp\.channel_proj2\.": ".mlp_branch.mlp.down.",
        r"\.cgmlp\.csgu\.conv\.": ".mlp_branch.mlp.gate.convolution.",
        r"\.cgmlp\.csgu\.": ".mlp_branch.mlp.gate.",
        r"\.merge_proj\.": ".merge.projection.",
        r"^ctc\.ctc_lo\.": "ctc_head.",
    }
    return [
        *(WeightRenaming(old, new) for old, new in renamings.items()),
        WeightConverter([rf"\.attention\.linear_{name}\." for name in "qkv"], ".attention.qkv.", [Concatenate(0)]),
        WeightConverter(
            [rf"\.cross_attention\.linear_{name}\." for name in "kv"], ".cross_attention.key_value.", [Concatenate(0)]
        ),
        WeightConverter([r"\.attention\.query\.", r"\.attention\.key\."], ".attention.query_key.", [Concatenate(0)]),
        WeightConverter([r"\.pooling_proj1\.", r"\.weight_proj1\."], ".merge.first_score.linear.", [Concatenate(0)]),
        WeightConverter([r"\.pooling_proj2\.", r"\.weight_proj2\."], ".merge.second_score.linear.", [Concatenate(0)]),
    ]


def processor(
    variant: str, config: BranchformerConfig, recipe: dict | None = None
) -> VitsSpectrogramFeatureExtractor | VitsSpeechProcessor:
    """Return ESPnet's front end; a recogniser whose `recipe` is given gets front end and tokenizer.

    Features are normalised with the checkpoint's statistics, or without any by the clip's own mean.

    Args:
        recipe: content of the model's config.yaml, which has the tokens that a checkpoint lacks. ValueError if their
            number is not the model's.
    """
    has_statistics = config.mel_mean is not None and config.mel_standard_deviation is not None
    fields = {"normalization": "utterance"} if recipe is None else espnet.front_end_fields(recipe)
    if has_statistics:
        fields |= {"normalization": "global", "mean": config.mel_mean, "std": config.mel_standard_deviation}
    extractor = VitsSpectrogramFeatureExtractor(
        feature_size=config.num_mel_bins,
        sampling_rate=SAMPLING_RATE,
        n_fft=config.n_fft,
        hop_length=config.hop_length,
        **fields,
    )
    if recipe is None or espnet.classifies(recipe):
        return extractor
    return VitsSpeechProcessor(extractor, espnet.tokenizer(recipe, config))
