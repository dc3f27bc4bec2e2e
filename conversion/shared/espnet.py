"""Reading of ESPnet's config.yaml: configuration fields, front end and tokens of a model.

`espnet2/bin/asr_train.py` writes the file beside the checkpoints.
"""

from hf_vits.models.branchformer.configuration_branchformer import BranchformerConfig
from hf_vits.processing.speech import VitsCtcTokenizer

SAMPLING_RATE = 16000
# Defaults of espnet2/asr/frontend/default.py
FRONT_END = {"n_fft": 512, "hop_length": 128, "fs": SAMPLING_RATE, "n_mels": 80, "fmin": None, "fmax": None}
FRONT_END |= {"window": "hann", "center": True, "htk": False, "normalized": False, "onesided": True}
NORMALIZATIONS = {"global_mvn": "global", "utterance_mvn": "utterance", None: None}
TOKEN_KINDS = {"char": "characters", "bpe": "subwords", "word": "words"}
INPUT_LAYERS = {"conv2d": "conv2d4", **{f"conv2d{factor}": f"conv2d{factor}" for factor in (1, 2, 6, 8)}}
INPUT_LAYERS["linear"] = "linear"
MERGE_METHODS = {"concat": "concat", "learned_ave": "learned_average", "fixed_ave": "fixed_average"}
POSITIONS = {"rel_pos": "relative", "abs_pos": "absolute", "scaled_abs_pos": "scaled_absolute"}
POSITIONS["legacy_rel_pos"] = "legacy_relative"
GATE_ACTS = {"identity": "linear", "swish": "silu"}
# {ESPnet's field of `encoder_conf`: our field}, where the values are the same
SAME = {
    "input_size": "num_mel_bins",
    "output_size": "hidden_size",
    "attention_heads": "num_attention_heads",
    "cgmlp_linear_units": "intermediate_size",
    "cgmlp_conv_kernel": "conv_depthwise_kernel_size",
    "use_linear_after_conv": "use_gate_linear",
    "attn_branch_drop_rate": "attention_branch_drop_rate",
    "num_blocks": "num_hidden_layers",
    "dropout_rate": "hidden_dropout_prob",
    "positional_dropout_rate": "position_dropout_prob",
    "attention_dropout_rate": "attention_probs_dropout_prob",
    "stochastic_depth_rate": "drop_path_rate",
    "qk_norm": "qk_norm",
}
# {ESPnet's field of `decoder_conf`: our field}
DECODER = {
    "num_blocks": "decoder_layers",
    "attention_heads": "decoder_attention_heads",
    "linear_units": "decoder_ffn_dim",
    "dropout_rate": "decoder_dropout",
    "self_attention_dropout_rate": "decoder_attention_dropout",
}


def model_fields(recipe: dict) -> dict:
    """Return the fields of encoder and front end; ValueError for an encoder or front end that we do not have."""
    if (encoder := recipe.get("encoder")) != "branchformer":
        raise ValueError(f"the config must be of a model with `encoder: branchformer`, got {encoder!r}")
    front_end = front_end_conf(recipe)
    fields = {"num_mel_bins": front_end["n_mels"], "n_fft": front_end["n_fft"], "hop_length": front_end["hop_length"]}
    return fields | encoder_fields(recipe.get("encoder_conf") or {})


def classifies(recipe: dict) -> bool:
    """Return whether the model is a classifier, whose config lists the classes as tokens, and not a recogniser."""
    return recipe.get("decoder") == "linear_decoder"


def class_fields(recipe: dict) -> dict:
    """Return pooling and class names: the tokens without blank, unknown and start/end of sentence."""
    pooling = (recipe.get("decoder_conf") or {}).get("pooling", "mean")
    names = dict(enumerate(token_list(recipe)[2:-1]))
    return {
        "pooling": {"CLS": "first"}.get(pooling, pooling),
        "id2label": names,
        "label2id": {name: index for index, name in names.items()},
    }


def decoder_fields(recipe: dict) -> dict:
    """Return the fields of the transformer decoder and of the loss."""
    known({"transformer": "transformer"}, "decoder", recipe.get("decoder"))
    conf, loss = recipe.get("decoder_conf") or {}, recipe.get("model_conf") or {}
    fields = {ours: conf[theirs] for theirs, ours in DECODER.items() if theirs in conf}
    losses = {"ctc_weight": "ctc_weight", "lsm_weight": "label_smoothing"}
    return fields | {ours: loss[theirs] for theirs, ours in losses.items() if theirs in loss}


def front_end_conf(recipe: dict) -> dict:
    """Return `frontend_conf` with its defaults; ValueError for options that our feature extractor does not have."""
    known({"default": "default"}, "frontend", recipe.get("frontend") or "default")
    conf = FRONT_END | (recipe.get("frontend_conf") or {})
    conf["fs"] = sampling_rate(conf["fs"])
    for name in ("fs", "fmin", "fmax", "window", "center", "htk", "normalized", "onesided"):
        if conf[name] != FRONT_END[name]:
            raise ValueError(f"frontend_conf.{name} must be {FRONT_END[name]!r}, got {conf[name]!r}")
    return conf


def sampling_rate(value: int | str) -> int:
    """Return a sampling rate in Hz, which ESPnet writes as 16000 or as 16k."""
    text = str(value)
    return int(1000 * float(text[:-1])) if text.endswith("k") else int(text)


def front_end_fields(recipe: dict) -> dict:
    """Return the feature extractor's fields that are not in our model configuration; ValueError for bad values."""
    name = recipe.get("normalize")
    if name not in NORMALIZATIONS:
        raise ValueError(f"normalize must be one of {', '.join(map(str, NORMALIZATIONS))}, got {name!r}")
    return {"normalization": NORMALIZATIONS[name], "win_length": front_end_conf(recipe).get("win_length")}


def tokenizer(recipe: dict, config: BranchformerConfig) -> VitsCtcTokenizer:
    """Return a tokenizer of the model's tokens; repeated tokens are merged for CTC, not for a decoder.

    Decoding subwords gives the exact text. Encoding cuts a text into as few subwords as possible; the model's own
    sentencepiece may choose others.

    Raises:
        ValueError: the config has no tokens, tokens of an unknown kind, or not as many as the model.
    """
    tokens = token_list(recipe)
    if len(tokens) != config.vocab_size:
        raise ValueError(
            f"the config has {len(tokens)} tokens and the model {config.vocab_size}: they are of different trainings"
        )
    kind = known(TOKEN_KINDS, "token_type", recipe.get("token_type"))
    return VitsCtcTokenizer.of_tokens(tokens, kind, group_tokens=not config.is_encoder_decoder)


def token_list(recipe: dict) -> list[str]:
    tokens = recipe.get("token_list")
    if not isinstance(tokens, list):
        raise ValueError(f"the config has no list of tokens: `token_list` is {tokens!r}")
    return [str(token) for token in tokens]


def encoder_fields(conf: dict) -> dict:
    """Return our configuration fields for an `encoder_conf` of ESPnet's recipes or of a model's config.yaml.

    Raises ValueError for an option, such as an input layer or position type, that our Branchformer does not have.
    """
    fields = {ours: conf[theirs] for theirs, ours in SAME.items() if theirs in conf}
    position, attention = conf.get("pos_enc_layer_type", "rel_pos"), conf.get("attention_layer_type", "rel_selfattn")
    if conf.get("rel_pos_type") == "legacy" and position == "rel_pos":
        position = "legacy_rel_pos"
    fields |= {
        "input_layer": known(INPUT_LAYERS, "input_layer", conf.get("input_layer", "conv2d")),
        "position_embedding_type": known(POSITIONS, "pos_enc_layer_type", position),
        "attention_type": "fast" if attention == "fast_selfattn" else "softmax",
        "only_backward_positions": position == "rel_pos" and conf.get("zero_triu", False),
        "gate_act": GATE_ACTS.get(conf.get("gate_activation", "identity"), conf.get("gate_activation")),
    }
    return fields | branch_fields(conf, fields.get("num_hidden_layers", 12))


def known(names: dict[str, str], field: str, value: str | None) -> str:
    """Return our name for a value of ESPnet's; ValueError with the known values if there is none."""
    if value not in names:
        raise ValueError(f"{field} must be one of {', '.join(names)}, got {value!r}")
    return names[value]


def branch_fields(conf: dict, num_layers: int) -> dict:
    """Return the branches of each layer and how they merge. With fixed weights, 0 or 1 means that one is missing."""
    method = known(MERGE_METHODS, "merge_method", conf.get("merge_method", "concat"))
    if not conf.get("use_attn", True) or not conf.get("use_cgmlp", True):
        return {"merge_method": "concat", "branches": "attention" if conf.get("use_attn", True) else "mlp"}
    if method != "fixed_average":
        return {"merge_method": method}
    weights = conf.get("cgmlp_weight", 0.5)
    weights = weights if isinstance(weights, list) else [weights] * num_layers
    return {
        "merge_method": method,
        "branches": [{0: "attention", 1: "mlp"}.get(weight, "both") for weight in weights],
        "mlp_branch_weight": [0.5 if weight in (0, 1) else weight for weight in weights],
    }
