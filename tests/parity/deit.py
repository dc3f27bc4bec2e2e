"""Golden cases of facebookresearch/deit: models and losses."""

import torch

from hf_vits.conversion import convert
from hf_vits.objectives import BinaryCrossEntropy, CoSubLoss, CrossEntropy, DistillationLoss

from .golden import Case, Config
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
    # models_v2.py, whose configurations name the kind of block, has no distillation and other stochastic depth.
    variant = "deit_tiny_patch16_LS" if "block" in config else "deit_tiny_patch16_224"
    overrides = {"num_attention_heads": config["num_heads"], "layer_norm_eps": config["layer_norm_eps"]}
    if size := config.get("run_img_size"):
        overrides["image_size"] = size
    model = convert("deit", variant, case.checkpoint(), **overrides)
    check(config, model.config)
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


def check(config: Config, built) -> None:
    """Compare what the file recorded of the model with the case's configuration."""
    has_layer_scale = built.layer_scale_init_value is not None
    parallel = "_paralx2" if built.num_parallel_branches == 2 else ""
    config.check(
        img_size=config.get("img_size") if "run_img_size" in config else built.image_size,
        patch_size=built.patch_size,
        embed_dim=built.hidden_size,
        depth=built.num_hidden_layers,
        mlp_ratio=built.intermediate_size / built.hidden_size,
        qkv_bias=built.qkv_bias,
        num_classes=built.num_labels,
        distilled=built.distilled,
        layer_scale=has_layer_scale,
        block=("Layer_scale_init_Block" if has_layer_scale else "Block") + parallel,
        patch_layer="hMLP_stem" if built.stem == "hierarchical_mlp" else "PatchEmbed",
    )


@torch.enable_grad()
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
