"""Golden cases of QData/C-Tran: models, losses, labels that are known at test time, and scores."""

import re

import numpy as np
import torch

from hf_vits.conversion import convert
from hf_vits.data.known_labels import unknown_concepts, unknown_indices
from hf_vits.layers.multi_label import UNKNOWN, binary_cross_entropy, without_known
from hf_vits.metrics import load_metric

from .golden import Case, Config
from .record import eager_attentions

FIELDS = {
    "num_attention_heads": "num_attention_heads",
    "layer_norm_eps": "layer_norm_eps",
    "activation": "hidden_act",
    "use_lmt": "use_known_labels",
    "image_size": "image_size",
}


def compute(case: Case) -> dict[str, torch.Tensor]:
    if not case.meta["keys"]:
        computed = compute_scores(case) if "logits" in case.inputs() else compute_unknown(case)
        return {name: torch.as_tensor(value) for name, value in computed.items()}
    return compute_model(case)


def compute_model(case: Case) -> dict[str, torch.Tensor]:
    config = case.config
    inputs = {name: torch.from_numpy(value) for name, value in case.inputs().items()}
    is_cub = config["backbone"] == "inception_v3"
    fields = config.renamed(FIELDS) | dict.fromkeys(
        ("hidden_dropout_prob", "attention_probs_dropout_prob"), config["dropout"]
    )
    model = convert("c_tran", "cub" if is_cub else "coco", case.checkpoint(), **fields)
    check(config, model.config)
    images, known, labels = inputs["image"], inputs["mask"].float(), inputs["labels"].float()
    if "class_label" in inputs:
        classes = torch.zeros(len(images), config["num_classes"])
        labels = torch.cat([labels, classes.scatter(1, inputs["class_label"].reshape(-1, 1).long(), 1)], 1)
    feature_map, auxiliary_logits = model.model.embeddings.backbone(images)
    logits = model(images, known_labels=known).logits
    unknown, losses = without_known(labels, known), torch.nn.BCEWithLogitsLoss(reduction="none")
    # Sums are taken of the original's own logits, which are compared with ours by themselves: above 128 a step of
    # float32 is larger than the tolerance, and on another CPU the original's own sums differ by such a step.
    golden = torch.from_numpy(case.outputs()["logits"])
    computed = {
        "logits": logits,
        "feature_map": feature_map,
        "bce": losses(logits, labels),
        "loss_unknown": binary_cross_entropy(golden, unknown, "sum")[None],
        "loss_all": binary_cross_entropy(golden, labels, "sum")[None],
        "loss_main": binary_cross_entropy(logits, unknown)[None],
    }
    if auxiliary_logits is not None:
        computed |= {
            "aux_logits": auxiliary_logits,
            "loss_aux": binary_cross_entropy(auxiliary_logits, unknown)[None],
        }
    attentions = eager_attentions(model, pixel_values=images, known_labels=known)
    return computed | {f"attention_layer{i}": as_theirs(map_, labels.shape[1]) for i, map_ in enumerate(attentions)}


def as_theirs(attention: torch.Tensor, num_labels: int) -> torch.Tensor:
    """The mean over heads, with image tokens before label tokens, which are first here."""
    return attention.mean(dim=1).roll((-num_labels, -num_labels), dims=(1, 2))


def check(config: Config, built) -> None:
    """Compare what the file recorded of the model with the case's configuration."""
    config.check(
        hidden_size=built.hidden_size,
        intermediate_size=built.intermediate_size,
        num_hidden_layers=built.num_hidden_layers,
        num_labels=built.num_labels,
        backbone={"resnet": "resnet101"}.get(built.backbone, built.backbone),
        attention="weights are averaged over heads",
    )
    if "num_concepts" in config:
        assert config["num_concepts"] + config["num_classes"] == built.num_labels


def compute_unknown(case: Case) -> dict[str, list[int]]:
    """Which labels are unknown at test time; the sizes are in the outputs' names."""
    inputs, groups = case.inputs(), case.config["cub_groups"]
    groups = {int(number): groups[number] for number in groups}
    known, certainty = inputs["cub_known_groups"], inputs["cub_certainty"]
    computed = {
        "cub_unknown": unknown_concepts(groups, known.astype(int).tolist(), certainty),
        "cub_unknown_none_known": unknown_concepts(groups, [], None),
    }
    for name in case.meta["outputs"]:
        if match := re.fullmatch(r"unknown_(\d+)labels_(\d+)known_(\w+)", name):
            image = inputs[match[3]]
            computed[name] = unknown_indices(image, int(match[1]), int(match[2]))
    return computed


def compute_scores(case: Case) -> dict[str, np.ndarray]:
    config, inputs = case.config, case.inputs()
    probabilities = torch.from_numpy(inputs["logits"]).sigmoid().numpy()
    options = {"num_concepts": 112} if config["dataset"] == "cub" else {}
    if config["known_labels"] > 0:
        options["known"] = inputs["mask"] != UNKNOWN
    scores = load_metric("multi_label").compute(
        predictions=probabilities, references=inputs["labels"], thresholds=config["threshold"], **options
    )
    printed = {f"printed/{name.replace('_top3', '_t3')}": round(100 * value, 1) for name, value in scores.items()}
    return {name: np.array([value]) for name, value in (scores | printed).items()}
