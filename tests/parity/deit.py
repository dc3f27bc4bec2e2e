"""Golden cases of facebookresearch/deit: models and losses."""

import re

import torch

from hf_vits.conversion import convert, variants
from hf_vits.objectives import BinaryCrossEntropy, CoSubLoss, CrossEntropy, DistillationLoss

from .golden import Case
from .record import eager_attentions, recording

BASE_LOSSES = {
    "ce": CrossEntropy(),
    "soft_target": CrossEntropy(),
    "label_smoothing": CrossEntropy(label_smoothing=0.1),
    "bce": BinaryCrossEntropy(),
}


def compute(case: Case) -> dict[str, torch.Tensor]:
    return compute_loss(case) if case.path.stem.startswith("loss_") else compute_model(case)


def compute_model(case: Case) -> dict[str, torch.Tensor]:
    config = case.config
    overrides = {
        "hidden_size": config["embed_dim"],
        "num_hidden_layers": config["depth"],
        "num_attention_heads": config["num_heads"],
        "intermediate_size": int(config["embed_dim"] * config["mlp_ratio"]),
    }
    model = convert("deit", variant(case), case.checkpoint(), **overrides)
    pixel_values = torch.from_numpy(case.inputs()["pixel_values"])
    encoder = model.model
    modules = {"embeddings": encoder.embeddings, "pos_embed": encoder.embeddings.position_embedding}
    modules |= {f"block{index}": layer for index, layer in enumerate(encoder.layers)}
    with recording(modules) as seen:
        outputs = model(pixel_values)
        base = encoder(pixel_values)
    attentions = eager_attentions(encoder, pixel_values=pixel_values)
    branches = model.config.num_parallel_branches
    return seen | {
        "block_middle": seen[f"block{config['depth'] // 2}"],
        "attention_first": attentions[0],
        "attention_last": attentions[-branches],
        "last_hidden_state": base.last_hidden_state,
        "pooled": base.pooler_output,
        "pooled_distillation": base.last_hidden_state[:, 1],
        "logits": outputs.logits,
        "logits_cls": outputs.cls_logits,
        "logits_distillation": outputs.distillation_logits,
    }


def variant(case: Case) -> str:
    """The published variant that a case is of; a stand-in for none is built like its namesake with layer scale."""
    name = case.meta["variant"].split()[0]
    name = re.sub(r"(_\d+)?_to_\d+$", r"\1", name)
    if name in variants("deit"):
        return name
    for candidate in (name.removesuffix("_384"), name.removesuffix("_224")):
        if candidate in variants("deit"):
            return candidate
    return {384: "deit_small_patch16_LS", 192: "deit_tiny_patch16_LS", 768: "deit_base_patch16_LS"}[
        case.config["embed_dim"]
    ]


def compute_loss(case: Case) -> dict[str, torch.Tensor]:
    """losses.py (`DistillationLoss`) and engine.py (cosub): value and gradients at given logits."""
    tensors = {name: torch.from_numpy(value) for name, value in case.inputs().items()}
    logits = tensors["logits"].requires_grad_()
    distillation_logits = tensors.get("logits_distillation", torch.zeros_like(logits)).requires_grad_()
    if case.path.stem.startswith("loss_cosub"):
        loss, _ = CoSubLoss()(logits, tensors["targets"])
    else:
        config = case.config
        base = BASE_LOSSES[config["base_criterion"]]
        objective = DistillationLoss(base, config["distillation_type"], config["alpha"], config["tau"])
        loss, _ = objective(logits, distillation_logits, tensors["targets"], tensors["teacher_logits"])
    loss.backward()
    return {
        "loss": loss[None],
        "grad_logits": logits.grad,
        "grad_logits_distillation": distillation_logits.grad,
    }
