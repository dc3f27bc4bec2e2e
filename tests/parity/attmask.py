"""Golden cases of gkakogeorgiou/attmask: iBOT's, and masks by attention."""

import torch

from hf_vits.objectives.masks import AttentionMask
from hf_vits.pretraining.self_distillation import views_first

from . import ibot
from .golden import Case, Config
from .self_distillation import compute_backbone, compute_steps, views_of_step
from .self_supervision import tensors


def compute(case: Case) -> dict[str, torch.Tensor]:
    return COMPUTE.get(case.path.stem.split("_")[0], compute_backbone)(case)


def compute_masks(case: Case) -> dict[str, torch.Tensor]:
    """The same draws three times over: for the whole mask and for what goes into it."""
    config = case.config
    attention = tensors(case)["attention"]
    masking = AttentionMask(strategy(config["masking_mode"]), config["masking_prob"], config["show_max"])
    ratio, hint_ratio = config["masking_ratio"], config["show_ratio"] / config["show_max"]
    mask = masking(attention, ratio, hint_ratio, seeded(config))
    ungated = masking.by_attention(attention, ratio)
    generator = seeded(config)
    gated = ungated & masking.gate(attention, generator)[:, None]
    return {
        "attention_mask_no_gate": ungated.float(),
        "gate_uniform": torch.rand(len(attention), generator=seeded(config)),
        "mask": mask.float(),
        "top_mask": masking.by_attention(attention, config["show_max"]).float(),
        "mask_before_reveal": gated.float(),
        "revealed_indices": masking.draw_hints(attention, hint_ratio, generator),
    }


def strategy(name: str) -> str:
    return name.removeprefix("attmask_")


def seeded(config: Config) -> torch.Generator:
    return torch.Generator().manual_seed(config["torch_manual_seed"])


def compute_two_steps(case: Case) -> dict[str, torch.Tensor]:
    config = case.config
    masking = {
        "masking": strategy(config["pred_shape"]),
        "mask_probability": config["masking_prob"],
        "hint_fraction": config["show_max"],
    }
    model = ibot.ibot_model(case, **masking)

    def forward(step: int):
        pixel_values, local_pixel_values = views_of_step(case, step)
        attention = model.teacher_tokens(views_first(pixel_values))[1]
        torch.manual_seed(config["torch_manual_seed_per_step"][step])
        ratio = config["pred_ratio_per_step"][step]
        outputs = model(pixel_values, None, local_pixel_values, mask_ratios=(ratio, ratio))
        return outputs, {
            "loss_cls": outputs.class_loss,
            "loss_patch": outputs.patch_loss,
            "cls_attention": attention,
            "mask": views_first(outputs.bool_masked_pos).float(),
        }

    return compute_steps(case, model, ibot.CENTERS, forward)


COMPUTE = ibot.COMPUTE | {"masks": compute_masks, "step": compute_two_steps}
