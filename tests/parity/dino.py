"""Golden cases of facebookresearch/dino: backbones, full checkpoints, losses, steps, schedules, LARS, analyses."""

import torch
from torch import nn

from hf_vits import conversion
from hf_vits.analysis.attention import attended_region
from hf_vits.analysis.propagation import neighbourhood, normalize_masks, propagate_labels
from hf_vits.conversion import convert
from hf_vits.evaluation.neighbours import top_accuracy, vote
from hf_vits.optim.optimizers import Lars

from .golden import Case
from .record import eager_attentions
from .self_distillation import (
    backbone_fields,
    check_backbone,
    check_head,
    compute_backbone,
    compute_steps,
    full_model,
    tiny_model,
    views_of_step,
)
from .self_supervision import compute_dino_loss, compute_schedules, tensors


def compute(case: Case) -> dict[str, torch.Tensor]:
    return COMPUTE.get(case.path.stem.split("_")[0], compute_backbone)(case)


def compute_full(case: Case) -> dict[str, torch.Tensor]:
    """One entry of a full checkpoint, on views of two sizes."""
    model = full_model(case)
    check_head(case.config, model.config)
    inputs = tensors(case)
    globals_, locals_ = (torch.cat([inputs[f"{kind}{index}"] for index in (1, 2)]) for kind in ("global", "local"))
    student = model.student
    features = torch.cat([student.backbone(views).pooler_output for views in (globals_, locals_)])
    bottleneck = student.head.bottleneck(features)
    teacher = model.teacher.head(features[:2])
    outputs = case.meta["outputs"]
    shapes = {name: outputs[name]["shape"] for name in outputs if name.startswith("teacher_probs_t")}
    projection = model(globals_[None], locals_[None]).logits[:, 0]
    return {
        "features": features,
        "bottleneck": bottleneck,
        "projection": projection,
        **{
            name: model.objective.center.sharpen(teacher, float(name.removeprefix("teacher_probs_t")))[:, : shape[-1]]
            for name, shape in shapes.items()
        },
    }


def compute_two_steps(case: Case) -> dict[str, torch.Tensor]:
    model = tiny_model(case)

    def forward(step: int):
        pixel_values, local_pixel_values = views_of_step(case, step)
        return model(pixel_values, local_pixel_values), {}

    return compute_steps(case, model, {"center": "center"}, forward)


def compute_lars(case: Case) -> dict[str, torch.Tensor]:
    inputs, config = tensors(case), case.config
    weight, bias = nn.Parameter(inputs["w"]), nn.Parameter(inputs["b"])
    optimizer = Lars(
        [weight, bias],
        lr=config["lr"],
        momentum=config["momentum"],
        weight_decay=config["weight_decay"],
        trust_coefficient=config["eta"],
    )
    computed = {}
    for step in (1, 2):
        weight.grad, bias.grad = inputs[f"gw{step}"], inputs[f"gb{step}"]
        optimizer.step()
        computed |= {f"weight_after{step}": weight.detach().clone(), f"bias_after{step}": bias.detach().clone()}
    return computed


def compute_neighbours(case: Case) -> dict[str, torch.Tensor]:
    inputs, config = tensors(case), case.config
    computed = {}
    for k in config["k"]:
        votes = vote(
            inputs["test"], inputs["train"], inputs["train_labels"], k, config["num_classes"], config["temperature"]
        )
        for rank in (1, 5):
            accuracy = top_accuracy(votes, inputs["test_labels"], rank)
            computed[f"top{rank}_k{k}"] = torch.tensor([100 * accuracy])
    return computed


def compute_attention(case: Case) -> dict[str, torch.Tensor]:
    """Of an image whose sides are multiples of the patch size, normalised as everywhere."""
    name, fields = backbone_fields(case.config)
    model = convert("dino", name, case.checkpoint(), **fields)
    check_backbone(case.config, model.config)
    image = tensors(case)["image_uint8"]
    processor = conversion.processor("dino", name, model)
    pixel_values = processor(image, do_resize=False, do_center_crop=False, return_tensors="pt")["pixel_values"]
    grid = model.embeddings.grid(*pixel_values.shape[-2:])
    attention = eager_attentions(model, pixel_values=pixel_values)[-1][0, :, 0, 1:]
    return {
        "attentions": attention.unflatten(1, grid),
        "thresholded": attended_region(attention, case.config["threshold"]).float().unflatten(1, grid),
        "pixel_values": pixel_values,
    }


def compute_propagation(case: Case) -> dict[str, torch.Tensor]:
    inputs, config = tensors(case), case.config
    radius, grid = config["size_mask_neighborhood"], (config["h"], config["w"])
    labels = propagate_labels(
        inputs["target_features"],
        inputs["context_features"],
        inputs["context_segs"],
        radius,
        config["topk"],
        config["temperature"],
    )
    return {
        "seg_target": labels[None],
        "normalised_masks": normalize_masks(labels),
        "neighbourhood_mask": neighbourhood(grid, radius).float(),
    }


COMPUTE = {
    "attention": compute_attention,
    "full": compute_full,
    "knn": compute_neighbours,
    "lars": compute_lars,
    "loss": compute_dino_loss,
    "schedules": compute_schedules,
    "step": compute_two_steps,
    "video": compute_propagation,
}
