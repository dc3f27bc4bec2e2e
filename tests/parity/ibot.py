"""Golden cases of bytedance/ibot: backbones, full checkpoints, masks, losses, steps, schedules."""

import random

import numpy as np
import torch

from hf_vits.objectives.masks import MaskRatio, block_mask, scattered_mask
from hf_vits.pretraining.ibot.modeling_ibot import split_tokens

from .golden import Case
from .record import eager_attentions
from .self_distillation import (
    check_head,
    compute_backbone,
    compute_steps,
    full_model,
    tiny_model,
    views_of_step,
    with_mean,
)
from .self_supervision import compute_ibot_loss, compute_schedules, tensors


def compute(case: Case) -> dict[str, torch.Tensor]:
    return COMPUTE.get(case.path.stem.split("_")[0], compute_backbone)(case)


def compute_masks(case: Case) -> dict[str, torch.Tensor]:
    """For each seed one sample, whose crops are masked in order."""
    config = case.config
    ratio = MaskRatio(config["pred_ratio"], config["pred_ratio_var"], config["pred_start_epoch"])
    grids = [(size // config["patch_size"],) * 2 for size in config["crop_sizes"]]
    masks = [[] for _ in grids]
    if config["pred_shape"] != "block":
        config.unused("pred_aspect_ratio")
    for seed in case.inputs()["seeds"]:
        generator, scatter = random.Random(int(seed)), np.random.RandomState(seed)
        for crop, grid in enumerate(grids):
            share = ratio.draw(generator, config["epoch"])
            if config["pred_shape"] == "block":
                mask = block_mask(grid, share, generator, tuple(config["pred_aspect_ratio"]))
            else:
                mask = scattered_mask(grid, share, scatter)
            masks[crop].append(mask)
    return {f"mask_crop{crop}": torch.from_numpy(np.stack(drawn)).float() for crop, drawn in enumerate(masks)}


def compute_full(case: Case) -> dict[str, torch.Tensor]:
    """One entry of a full checkpoint: a student, whose global views are masked, or a teacher."""
    is_student = case.config["student"]
    model = full_model(case)
    check_head(case.config["head"], model.config)
    branch = model.student if is_student else model.teacher
    inputs = tensors(case)
    views = torch.cat([inputs["global1"], inputs["global2"]])
    masks = {}
    if is_student:
        masks["bool_masked_pos"] = torch.cat([inputs["mask1"], inputs["mask2"]]).flatten(1)
    outputs = branch.backbone(views, **masks)
    pooled, patches = split_tokens(branch.backbone, outputs)
    tokens = outputs.last_hidden_state
    computed = {
        "tokens": tokens if branch.backbone.config.num_prefix_tokens else with_mean(tokens, pooled),
        "cls_projection": branch.head(pooled),
        "patch_projection": branch.head.patches(branch.head.bottleneck(patches)),
    }
    if local := [value for name, value in inputs.items() if name.startswith("local")]:
        computed["local_cls_projection"] = branch.head(branch.backbone(torch.cat(local)).pooler_output)
    if "attention" in case.meta["outputs"]:
        computed["attention"] = eager_attentions(branch.backbone, pixel_values=views)[-1]
    return computed


def ibot_model(case: Case, **overrides):
    loss = case.config["loss"]
    return tiny_model(
        case,
        class_weight=loss["lambda1"],
        patch_weight=loss["lambda2"],
        patch_center_momentum=loss["center_momentum2"],
        **overrides,
    )


CENTERS = {"center": "center", "center2": "patch_center"}


def compute_two_steps(case: Case) -> dict[str, torch.Tensor]:
    model, inputs = ibot_model(case), tensors(case)

    def forward(step: int):
        pixel_values, local_pixel_values = views_of_step(case, step)
        mask = torch.stack([inputs[f"step{step + 1}_mask{index}"].flatten(1) for index in (1, 2)], dim=1)
        outputs = model(pixel_values, mask, local_pixel_values)
        return outputs, {"loss_cls": outputs.class_loss, "loss_patch": outputs.patch_loss}

    return compute_steps(case, model, CENTERS, forward)


COMPUTE = {
    "full": compute_full,
    "loss": compute_ibot_loss,
    "masks": compute_masks,
    "schedules": compute_schedules,
    "step": compute_two_steps,
}
