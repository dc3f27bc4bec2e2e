"""Golden cases of Alxead/SFC: networks, loss, two training steps, crops, label propagation."""

import random

import torch
from torch.nn.functional import normalize

from hf_vits.conversion import convert
from hf_vits.conversion.systems.sfc import CLASSIFIER_STRIDES, original_key
from hf_vits.evaluation.propagation import (
    LabelPropagation,
    context_frames,
    fuse_features,
    neighbourhood,
    top_affinities,
)
from hf_vits.objectives import CorrespondenceLoss
from hf_vits.optim.schedules import cosine
from hf_vits.training.examples.crops import crop_box, draw_crop

from .golden import Case, Config
from .record import recording
from .self_supervision import tensors


def compute(case: Case) -> dict[str, torch.Tensor]:
    name = case.path.stem
    return next(function for start, function in COMPUTE.items() if name.startswith(start))(case)


def strides(removed: list[str], num_stages: int = 4) -> list[int]:
    """Strides of the stages when the convolutions of the removed ones have stride 1."""
    return [1 if f"layer{stage + 1}" in removed else CLASSIFIER_STRIDES[stage] for stage in range(num_stages)]


def training_model(case: Case, removed: list[str], arch: str = "resnet18", **fields):
    return convert("sfc", f"{arch}_full", case.checkpoint(), backbone_config={"strides": strides(removed)}, **fields)


def compute_encoder(case: Case) -> dict[str, torch.Tensor]:
    """Features for propagation: some last stages removed, strides of the third and fourth 1."""
    removed = case.config["remove_layers"]
    stages = 4 - len(removed)
    fields = {"strides": strides(["layer3", "layer4"], stages)}
    if case.config.get("padding"):
        fields["padding_mode"] = case.config["padding"]
    model = convert("sfc", case.config["arch"], case.checkpoint(), **fields | sizes(case, stages))
    frames = tensors(case)["frames"]
    maps = model(frames.transpose(1, 2).flatten(0, 1), output_hidden_states=True).hidden_states[-1]
    features = maps.unflatten(0, (frames.shape[0], -1)).transpose(1, 2)
    return {"features": features, "normalised": normalize(features, dim=1)}


def sizes(case: Case, stages: int) -> dict:
    """Layers and channels of the stages that a case keeps, from its tensors, whatever their prefix."""
    keys, first = case.meta["keys"], "layer1.0.conv1.weight"
    prefix = next(key for key in keys if key.endswith(first)).removesuffix(first)
    last = "conv3" if f"{prefix}layer1.0.conv3.weight" in keys else "conv2"
    names = [f"{prefix}layer{stage + 1}." for stage in range(stages)]
    return {
        "depths": [len({key[len(name) :].split(".")[0] for key in keys if key.startswith(name)}) for name in names],
        "hidden_sizes": [keys[f"{name}0.{last}.weight"][0] for name in names],
    }


def compute_fine_grained(case: Case) -> dict[str, torch.Tensor]:
    model = training_model(case, case.config["remove_stride_layers"], case.config["arch"])
    check_heads(case.config, model)
    outputs = {}
    for view, images in enumerate(tensors(case).values(), start=1):
        modules = {"feat": model.student.backbone.stages[-1], "proj": model.student.head}
        with recording(modules) as seen:
            predicted = model.student(images)
        maps = seen | {"pred": predicted, "target": model.teacher(images)}
        outputs |= {f"{name}_{view}": feature_map for name, feature_map in maps.items()}
    return outputs


def check_heads(config: Config, model) -> None:
    built = model.config
    config.check(
        projection_hidden_dim=built.projection_hidden_size,
        projection_dim=built.projection_size,
        prediction_hidden_dim=built.prediction_hidden_size,
    )


@torch.enable_grad()
def compute_loss(case: Case) -> dict[str, torch.Tensor]:
    inputs = tensors(case)
    query, key = normalize(inputs["q"], dim=1).requires_grad_(), normalize(inputs["k"], dim=1)
    objective = CorrespondenceLoss(case.config["pos_radius"])
    loss, _ = objective(query, key, inputs["coord_q"], inputs["coord_k"])
    loss.backward()
    return {"loss": loss[None], "grad_q": query.grad, "q_used": query, "k_used": key}


@torch.enable_grad()
def compute_steps(case: Case) -> dict[str, torch.Tensor]:
    config = case.config
    model = training_model(
        case, config.get("remove_stride_layers", ["layer3", "layer4"]), positive_radius=config["pos_radius"]
    ).train()
    check_heads(config, model)
    config.check(blocks=model.config.backbone_config.depths)
    inputs = tensors(case)
    config.check(img_size=inputs["step1_vid1"].shape[-1])
    momentum = cosine(config["momentum_target"], 1.0, config["total_steps"], stays=False)
    options = {"lr": config["lr"], "weight_decay": config["weight_decay"]}
    optimizer = getattr(torch.optim, config["optimizer"])(model.parameters(), **options)
    outputs = {}
    for step in range(sum(name.endswith("vid1") for name in inputs)):
        views, boxes = (
            torch.stack([inputs[f"step{step + 1}_{kind}{view}"].flatten(0, 1) for view in (1, 2)], dim=1)
            for kind in ("vid", "coord")
        )
        model.update_teacher(momentum(step))
        loss = model(views, boxes).loss
        optimizer.zero_grad()
        loss.backward()
        gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
        optimizer.step()
        outputs |= recorded(f"step{step + 1}", model, gradients, loss)
    return outputs


def recorded(step: str, model, gradients: dict, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    """Everything of a step under the original's names."""
    outputs = {f"{step}/loss": loss.detach()[None]}
    trained = {name for name, _ in model.named_parameters()}
    for name, value in model.state_dict().items():
        theirs = original_key(name)
        kind = "buffer" if name not in trained else "target" if theirs.startswith("target") else "online"
        outputs[f"{step}/{kind}/{theirs}"] = value.clone()
        if gradients.get(name) is not None:
            outputs[f"{step}/grad/{theirs}"] = gradients[name].clone()
    return outputs


def compute_momentum(case: Case) -> dict[str, torch.Tensor]:
    momentum = cosine(case.config["momentum_target"], 1.0, case.config["total_steps"], stays=False)
    (count,) = case.meta["outputs"]["momentum"]["shape"]
    return {"momentum": torch.tensor([momentum(step) for step in range(count)], dtype=torch.float64)}


def compute_crops(case: Case) -> dict[str, torch.Tensor]:
    generator = random.Random(case.config["python_random_seed"])
    ratio = tuple(case.config.get("ratio", (3 / 4, 4 / 3)))
    crops, boxes = [], []
    for width, height in case.inputs()["size"].tolist():
        size = (int(height), int(width))
        crops.append(draw_crop(size, tuple(case.config["scale"]), ratio, generator))
        boxes.append(crop_box(crops[-1], size))
    return {"crop_top_left_height_width": torch.tensor(crops), "coord": torch.tensor(boxes)}


def compute_contexts(case: Case) -> dict[str, torch.Tensor]:
    """Frames are numbered with the copies of the first in front, of which ours has none."""
    outputs = {}
    for name, spec in case.config.items():
        rows = [context_frames(frame, spec["n_context"], spec["long_mem"]) for frame in range(spec["N"])]
        kinds = [[row[position : position + 1] for row in rows] for position in range(len(spec["long_mem"]))]
        kinds.append([row[len(spec["long_mem"]) :] for row in rows])
        for number, frames in enumerate(kinds):
            outputs[f"{name}_index_{number}"] = torch.tensor(frames)
    return outputs


def compute_radius(case: Case) -> dict[str, torch.Tensor]:
    outputs = {}
    for name in case.meta["outputs"]:
        size, radius = name.removeprefix("mask_").split("_r")
        grid = tuple(map(int, size.split("x")))
        near = neighbourhood(grid, float(radius))
        outputs[name] = near.unflatten(1, grid).unflatten(0, grid)[None].float()
    return outputs


def compute_affinity(case: Case) -> dict[str, torch.Tensor]:
    config = case.config
    query, keys = (normalize(tensors(case)[name][0], dim=0) for name in ("query", "keys"))
    num_unrestricted = len(config["long_mem"])
    found = [
        top_affinities(
            frame, contexts, config["topk"], config["temperature"], config["radius"], num_unrestricted=num_unrestricted
        )
        for frame, contexts in zip(query.unbind(1), keys.permute(1, 2, 0, 3, 4), strict=True)
    ]
    return {name: torch.stack([getattr(one, name).T for one in found]) for name in ("weights", "indices")}


def compute_propagation(case: Case) -> dict[str, torch.Tensor]:
    config, inputs = case.config, tensors(case)
    features = [inputs[name].transpose(0, 1) for name in ("fc_features", "se_features") if name in inputs]
    fused = fuse_features(*features, weight=config["lambd"]) if len(features) == 2 else normalize(features[0], dim=1)
    config.unused("lambd")
    copies = config["n_context"]
    propagation = LabelPropagation(
        config["n_context"],
        config["topk"],
        config["temperature"],
        config["radius"],
        long_term=config["long_mem"],
        rescale=config["norm_mask"],
    )
    predictions = propagation(fused[copies:], inputs["labels"][0].permute(2, 0, 1))
    return {"predictions": predictions.permute(0, 2, 3, 1)}


COMPUTE = {
    "eval_encoder": compute_encoder,
    "fine_grained": compute_fine_grained,
    "loss": compute_loss,
    "step": compute_steps,
    "momentum_schedule": compute_momentum,
    "crop_coordinates": compute_crops,
    "context_index_bank": compute_contexts,
    "radius_mask": compute_radius,
    "affinity": compute_affinity,
    "label_propagation": compute_propagation,
}
