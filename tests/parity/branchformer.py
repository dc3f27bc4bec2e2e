"""Golden cases of espnet/espnet: encoders with a CTC head, and whole models from waveform to loss."""

import re

import torch
from torch import nn

from hf_vits.conversion import convert, processor
from hf_vits.conversion.shared.espnet import encoder_fields
from hf_vits.layers.sequence_losses import PADDING

from .golden import Case
from .record import eager_attentions, recording


def compute(case: Case) -> dict[str, torch.Tensor]:
    inputs = {name: torch.from_numpy(value) for name, value in case.inputs().items()}
    conf = case.config.get("encoder", case.config)
    model = convert("branchformer", "aishell_e24", case.checkpoint(), **overrides(case, conf))
    computed = {}
    if "speech" in inputs:
        computed, features, mask = front_end(model, inputs)
        labels = padded(inputs["text"], inputs["text_lengths"])
    else:
        features, mask = inputs["features"], frame_mask(inputs["features"], inputs["lengths"])
        labels = padded(inputs["targets"], inputs["target_lengths"])
    # Such a case was computed in training mode, its rates of dropout being 0.
    model.train(conf.get("attn_branch_drop_rate") == 1)
    computed |= encode(model, features, mask)
    heads = {"hybrid": hybrid, "linear": classification}.get(case.config.get("decoder_type"), ctc)
    return with_steps(case, computed | heads(model, features, mask, labels))


# Fields of which no tensor tells.
UNTOLD = ("num_mel_bins", "num_attention_heads", "position_embedding_type", "only_backward_positions", "gate_act")
UNTOLD += ("mlp_branch_weight", "attention_branch_drop_rate", "drop_path_rate", "hidden_dropout_prob")
UNTOLD += ("position_dropout_prob", "attention_probs_dropout_prob")


def overrides(case: Case, conf: dict) -> dict:
    """What a case says of its network; the checkpoint tells the rest."""
    fields = {name: value for name, value in encoder_fields(conf).items() if name in UNTOLD}
    if "frontend" in case.config:
        fields["hop_length"] = case.config["frontend"]["hop_length"]
    if case.config.get("decoder_type") == "linear":
        fields["pooling"] = {"CLS": "first"}.get(case.config["decoder"]["pooling"], case.config["decoder"]["pooling"])
    if case.config.get("decoder_type") == "hybrid":
        decoder = case.config["decoder"]
        fields |= {"decoder_layers": decoder["num_blocks"], "decoder_attention_heads": decoder["attention_heads"]}
        fields["ctc_weight"], fields["label_smoothing"] = case.config["ctc_weight"], case.config["lsm_weight"]
    return fields


def frame_mask(frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    return torch.arange(frames.shape[1]) < lengths[:, None]


def padded(targets: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    return targets.long().masked_fill(~frame_mask(targets, lengths), PADDING)


def front_end(model: nn.Module, inputs: dict[str, torch.Tensor]):
    """Outputs of the feature extractor, and what of them the model takes."""
    extractor = processor("branchformer", "aishell_e24", model)
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


def ctc(model, features, mask, labels) -> dict[str, torch.Tensor]:
    """The loss in double precision: of sums over so many frames, single holds no digit as small as the tolerance."""
    logits = model(features, mask).logits
    return {"ctc_logits": logits, "ctc_loss": model.double()(features, mask, labels=labels).loss[None]}


def classification(model, features, mask, labels) -> dict[str, torch.Tensor]:
    """Target ids of ESPnet count blank and unknown before the classes."""
    logits, classes = model(features, mask).logits, labels[:, 0] - 2
    loss = nn.functional.cross_entropy(logits, classes, label_smoothing=0.1)
    return {"logits": logits, "loss": loss[None], "acc": accuracy(logits, classes)}


def hybrid(model, features, mask, labels) -> dict[str, torch.Tensor]:
    outputs = model(features, mask, labels=labels)
    inputs, targets = model.shifted(labels)
    return {
        "decoder_input_ids": inputs,
        "decoder_target_ids": targets.masked_fill(targets < 0, -1),
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
