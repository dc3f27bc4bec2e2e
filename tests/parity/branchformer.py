"""Golden cases of espnet/espnet: encoders with a CTC head, and whole models from waveform to loss."""

import re

import torch
from torch import nn

from hf_vits.conversion import convert, original_fields, processor
from hf_vits.layers.sequence_losses import PADDING

from .golden import Case, Config
from .record import eager_attentions, recording

HEADS = {"hybrid": "transformer", "linear": "linear_decoder"}  # names of the decoders in ESPnet
FRONT_END = ("fs", "n_fft", "win_length", "hop_length", "window", "center", "normalized", "onesided")
FRONT_END += ("n_mels", "fmin", "fmax", "htk")


def compute(case: Case) -> dict[str, torch.Tensor]:
    inputs = {name: torch.from_numpy(value) for name, value in case.inputs().items()}
    config = case.config
    conf = config.get("encoder", config)
    if conf.get("merge_method") != "fixed_ave":
        conf.unused("cgmlp_weight")
    if conf.get("pos_enc_layer_type", "rel_pos") != "rel_pos" or conf.get("rel_pos_type") == "legacy":
        conf.unused("zero_triu")
    recipe, overrides = as_recipe(config, conf)
    fields = original_fields("branchformer", recipe, **overrides)
    model = convert("branchformer", "aishell_e24", case.checkpoint(), **fields)
    check(config, conf, model.config)
    computed = {}
    if "speech" in inputs:
        computed, features, mask = front_end(model, recipe, inputs)
        labels = padded(inputs["text"], inputs["text_lengths"])
    else:
        features, mask = inputs["features"], frame_mask(inputs["features"], inputs["lengths"])
        labels = padded(inputs["targets"], inputs["target_lengths"])
    # Such a case was computed in training mode, its rates of dropout being 0.
    model.train(conf.get("attn_branch_drop_rate") == 1)
    computed |= encode(model, features, mask)
    heads = {"hybrid": hybrid, "linear": classification}.get(config.get("decoder_type"), ctc)
    return with_steps(case, computed | heads(config, model, features, mask, labels))


def as_recipe(config: Config, conf: Config) -> tuple[dict, dict]:
    """Return a config.yaml of ESPnet that says what the case does, and fields that ask for its decoder."""
    recipe = {"encoder": "branchformer", "encoder_conf": conf}
    if "frontend" in config:
        recipe["frontend_conf"] = config["frontend"].renamed({name: name for name in FRONT_END})
        recipe["normalize"] = config["normalize"]
        words = [f"word{index}" for index in range(config["vocab_size"] - 3)]
        recipe |= {"token_type": "word", "token_list": ["<blank>", "<unk>", *words, "<sos/eos>"]}
    if "decoder_type" not in config:
        return recipe, {}
    recipe |= {"decoder": HEADS[config["decoder_type"]], "decoder_conf": config["decoder"], "model_conf": config}
    is_hybrid = config["decoder_type"] == "hybrid"
    return recipe, {"decoder_layers": config["decoder"]["num_blocks"]} if is_hybrid else {}


def check(config: Config, conf: Config, built) -> None:
    """Compare what the file recorded of the model with the case's configuration."""
    branches = built.per_layer("branches")
    conf.check(use_attn=set(branches) != {"mlp"}, use_cgmlp=set(branches) != {"attention"})
    if config.get("decoder_type") == "linear":  # its tokens are the classes, blank, unknown, start and end
        config.check(vocab_size=built.num_labels + 3, sos_eos_id=built.num_labels + 2, blank_id=0, ctc_weight=0.0)
        config.unused("ignore_id")
    else:
        config.check(vocab_size=built.vocab_size, blank_id=built.pad_token_id)
    if config.get("decoder_type") == "hybrid":
        config.check(sos_eos_id=built.eos_token_id)


def frame_mask(frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    return torch.arange(frames.shape[1]) < lengths[:, None]


def padded(targets: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    return targets.long().masked_fill(~frame_mask(targets, lengths), PADDING)


def front_end(model: nn.Module, recipe: dict, inputs: dict[str, torch.Tensor]):
    """Outputs of the feature extractor, and what of them the model takes."""
    extractor = processor("branchformer", "aishell_e24", model, recipe)
    extractor = getattr(extractor, "feature_extractor", extractor)
    features, mask = extractor.extract(inputs["speech"], inputs["speech_lengths"])
    extractor.normalization = None
    log_mel, _ = extractor.extract(inputs["speech"], inputs["speech_lengths"])
    return {"log_mel": log_mel, "normalized": features, "feature_lengths": mask.sum(dim=1)}, features, mask


def encode(model: nn.Module, features: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
    encoder = model.model
    first = encoder.layers[0]
    modules = {
        "embedded": encoder.embeddings,
        "pos_emb": encoder.embeddings.positions,
        "layer0_attention_branch": first.attention_branch,
        "layer0_cgmlp_branch": first.mlp_branch,
    }
    for index, layer in enumerate(encoder.layers):
        modules[f"hidden_{index}"] = layer
        modules[f"layer{index}_merge_logit1"] = getattr(layer.merge, "first_score", None)
        modules[f"layer{index}_merge_logit2"] = getattr(layer.merge, "second_score", None)
    with recording({name: module for name, module in modules.items() if module is not None}) as seen:
        outputs = encoder(features, mask)
    attentions = eager_attentions(encoder, input_features=features, attention_mask=mask)
    for name in seen:
        if "merge_logit" in name:
            seen[name] = seen[name][:, None]
    if encoder.config.position_embedding_type == "relative":
        seen["pos_emb"] = seen["pos_emb"][:-1]  # of no pair
    return seen | {
        "pos_emb": seen["pos_emb"][None],
        "encoder_out": outputs.last_hidden_state,
        "encoder_lengths": outputs.frame_mask.sum(dim=1),
        "layer0_attention_probs": next(iter(attentions or ()), None),
    }


def ctc(config, model, features, mask, labels) -> dict[str, torch.Tensor]:
    """The loss in double precision: of sums over so many frames, single holds no digit as small as the tolerance."""
    logits = model(features, mask).logits
    return {"ctc_logits": logits, "ctc_loss": model.double()(features, mask, labels=labels).loss[None]}


def classification(config, model, features, mask, labels) -> dict[str, torch.Tensor]:
    """Target ids of ESPnet count blank and unknown before the classes."""
    logits, classes = model(features, mask).logits, labels[:, 0] - 2
    loss = nn.functional.cross_entropy(logits, classes, label_smoothing=config["lsm_weight"])
    return {"logits": logits, "loss": loss[None], "acc": accuracy(logits, classes)}


def hybrid(config, model, features, mask, labels) -> dict[str, torch.Tensor]:
    outputs = model(features, mask, labels=labels)
    inputs, targets = model.shifted(labels)
    return {
        "decoder_input_ids": inputs,
        "decoder_target_ids": targets.masked_fill(targets < 0, config["ignore_id"]),
        "decoder_logits": outputs.logits,
        "loss": outputs.loss[None],
        "loss_ctc": outputs.ctc_loss[None],
        "loss_att": outputs.decoder_loss[None],
        "acc": accuracy(outputs.logits, targets),
    }


def accuracy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (logits.argmax(dim=-1) == targets)[targets >= 0].float().mean()[None]


def with_steps(case: Case, computed: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What was computed, and what a case names `X_sA_B_C`: every A-th, B-th, C-th entry of X along its axes."""
    for name in case.meta["outputs"]:
        if match := re.fullmatch(r"(.+)_s(\d+(?:_\d+)+)", name):
            steps = tuple(slice(None, None, int(step)) for step in match[2].split("_"))
            computed[name] = computed[match[1]][steps]
    return computed
