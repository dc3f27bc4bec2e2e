"""Golden cases of Sara-Ahmed/SiT, three generations: losses, corruptions, schedules."""

import random

import numpy as np
import torch

from hf_vits.conversion.core import apply_transforms, build, load
from hf_vits.conversion.timm_vit import vit_renamings
from hf_vits.models.deit.modeling_deit import DeiTModel
from hf_vits.objectives import MomentumContrastLoss, NTXentLoss, SiTLoss
from hf_vits.objectives import corruptions as paint
from hf_vits.objectives.sit import TASK_SCALES
from hf_vits.pretraining.heads import ReconstructionHead, contrastive_head, momentum_contrastive_head

from .golden import Case
from .record import eager_attentions
from .self_supervision import compute_schedules, tensors


def compute(case: Case) -> dict[str, torch.Tensor]:
    return COMPUTE[case.path.stem.split("_corrupt_")[0]](case)


class Recorded(np.random.RandomState):
    """numpy's generator, which remembers what it drew."""

    def __init__(self, seed: int):
        super().__init__(seed)
        self.drawn: list[float] = []

    def record(self, value):
        self.drawn.append(float(value))
        return value

    def randint(self, *bounds, **options):
        # `choice` asks for options, and is not among the draws.
        drawn = super().randint(*bounds, **options)
        return drawn if options else self.record(drawn)

    def uniform(self, *bounds):
        return self.record(super().uniform(*bounds))

    def rand(self):
        return self.record(super().rand())


@torch.enable_grad()
def compute_multi_task_loss(case: Case) -> dict[str, torch.Tensor]:
    inputs = tensors(case)
    names = ("rot_logits", "contr_1", "contr_2", "recon")
    objective = SiTLoss("exponential", corrupted_only=False, temperature=case.config["temperature"])
    weights = {task: objective.weighting.weights[task] for task in TASK_SCALES}
    for weight, value in zip(weights.values(), inputs["weights"], strict=True):
        weight.data.fill_(value)
    leaves = [inputs[name].requires_grad_() for name in names]
    loss, logged = objective(leaves[0], inputs["rot_labels"], *leaves[1:3], leaves[3], inputs["target"])
    loss.backward()
    return {
        "loss": loss[None],
        **{f"loss_{task}": logged[f"{task}_loss"][None] for task in weights},
        **{f"grad_{name}": leaf.grad for name, leaf in zip(names, leaves, strict=True)},
        "grad_weights": torch.cat([weight.grad for weight in weights.values()]),
    }


@torch.enable_grad()
def compute_infonce(case: Case) -> dict[str, torch.Tensor]:
    features = tensors(case)["features"].requires_grad_()
    objective = NTXentLoss(case.config["temperature"])
    first, second = features.chunk(2)
    loss, _ = objective(first, second)
    loss.backward()
    logits = objective.logits(first, second)
    positives = torch.arange(len(logits)).roll(len(first))[:, None]
    negatives = logits.scatter(1, positives, float("-inf"))
    negatives = negatives[negatives.isfinite()].unflatten(0, (len(logits), -1))
    return {
        "loss": loss[None],
        "grad_features": features.grad,
        "logits": torch.cat([logits.gather(1, positives), negatives], dim=1),
    }


@torch.enable_grad()
def compute_momentum_contrast(case: Case) -> dict[str, torch.Tensor]:
    inputs = tensors(case)
    student = inputs["student"].requires_grad_()
    views = (2, len(student) // 2)
    loss, _ = MomentumContrastLoss(case.config["temperature"])(
        student.unflatten(0, views), inputs["teacher"].unflatten(0, views)
    )
    loss.backward()
    return {"loss": loss[None], "grad_student": student.grad}


def compute_rotation(case: Case) -> dict[str, torch.Tensor]:
    image = tensors(case)["image"]
    return {f"orientation_{label}": paint.rotate(image, label) for label in range(4)}


def compute_first_corruption(case: Case) -> dict[str, torch.Tensor]:
    """engine.py: one corruption of an image, or all of them over a batch."""
    inputs, seed = tensors(case), case.config["seed"]
    generator, noise = Recorded(seed), torch.Generator().manual_seed(seed)
    image = inputs["image"]
    kind = case.path.stem.rpartition("_")[2]
    if kind == "all":
        corrupted = paint.corrupt(image, generator, noise)
    else:
        corrupted = image.clone()
        {
            "gray": lambda: paint.gray_block(corrupted, generator),
            "blur": lambda: paint.blur_block(corrupted, generator),
            "noise": lambda: paint.replace_blocks(corrupted, generator, noise=noise),
            "replace": lambda: paint.replace_blocks(corrupted, generator, other=inputs["other"]),
        }[kind]()
    changed = (corrupted != image).any(dim=-3).float()
    return {"corrupted": corrupted, "changed": changed, "draws": torch.tensor(generator.drawn)}


def compute_later_corruption(case: Case) -> dict[str, torch.Tensor]:
    """datasets/datasets_utils.py, `GMML_drop_rand_patches`."""
    inputs, config = tensors(case), case.config
    generator = Recorded(config["seed"])
    corrupted = inputs["image"].clone()
    mask = paint.drop_blocks(
        corrupted,
        generator,
        kinds=[
            "shuffle" if kind not in ("noise", "zeros") else kind
            for kind in config.get("drop_type", "noise").split("-")
        ],
        largest_share=config["max_replace"],
        align=config["align"],
        largest_side=config.get("max_block_sz", 0.3),
        other=inputs.get("other"),
        noise=torch.Generator().manual_seed(config["seed"]),
    )
    return {"corrupted": corrupted, "mask": mask.float(), "draws": torch.tensor(generator.drawn)}


def compute_replaced_list(case: Case) -> dict[str, torch.Tensor]:
    """datasets/datasets_utils.py, `GMML_replace_list`."""
    inputs, config = tensors(case), case.config
    gate = random.Random(config["seed"])
    share = 1 / (len(config["drop_type"].split("-")) + 1)
    corrupted, mask = paint.mix_blocks(
        inputs["samples"],
        inputs["corrupted"],
        inputs["masks"][:, 0] > 0,
        [gate.random() < share for _ in inputs["samples"]],
        np.random.RandomState(config["seed"]),
        largest_share=config["max_replace"],
        align=config["align"],
    )
    return {"corrupted": corrupted, "mask": mask.float()}


def compute_heads(case: Case) -> dict[str, torch.Tensor]:
    """A model's heads, on a ViT with one or two prefix tokens; there is no model of SiT of its own yet."""
    generation = int(case.path.stem[3])
    checkpoint = {name: torch.from_numpy(value) for name, value in case.checkpoint().items()}
    encoder = {name.removeprefix("backbone."): value for name, value in checkpoint.items() if "head" not in name}
    tokens = [encoder.pop(name) for name in PREFIX_TOKENS[generation]]
    encoder["cls_token"] = torch.cat(tokens, dim=1)
    backbone = make_backbone(case.config, encoder, distilled=generation < 3)
    pixel_values = tensors(case)["pixel_values"]
    features = backbone(pixel_values).last_hidden_state
    patches, prefix = features[:, len(tokens) :], features[:, : len(tokens)]
    grid = backbone.embeddings.grid(*pixel_values.shape[-2:])
    hidden_size, patch_size = features.shape[-1], case.config["patch_size"]
    painting = ReconstructionHead(hidden_size, NUM_PAINTING_LAYERS[generation], patch_size)
    name = {1: "", 2: "rec_head.", 3: "head_recons."}[generation]
    painting.load_state_dict(
        {key.replace("convTrans", "paint"): value for key, value in part(checkpoint, name).items()}
    )
    computed = {"features": features, "reconstruction": painting(patches, grid)}
    if generation == 1:
        rotation, contrastive = (torch.nn.Linear(hidden_size, size) for size in (4, case.config["contrastive_dim"]))
        rotation.load_state_dict(part(checkpoint, "rot_head."))
        contrastive.load_state_dict(part(checkpoint, "contrastive_head."))
        weights = torch.cat([checkpoint[f"{task}_w"] for task in ("rot", "contrastive", "recons")])
        return computed | {
            "rotation_logits": rotation(prefix[:, 0]),
            "contrastive": contrastive(prefix[:, 1]),
            "uncertainty_weights": weights,
        }
    if generation == 2:
        heads = [contrastive_head(hidden_size, size) for size in (4, case.config["simCLR_outdim"])]
        heads[0].load_state_dict(part(checkpoint, "rot_head.mlp."))
        heads[1].load_state_dict(part(checkpoint, "contr_head.mlp."))
        attention = eager_attentions(backbone, pixel_values=pixel_values)[-1]
        return computed | {
            "rotation_logits": heads[0](prefix[:, 0]),
            "contrastive": heads[1](prefix[:, 1]),
            "last_attention": attention,
        }
    head = momentum_contrastive_head(hidden_size, case.config["out_dim"], case.config["hidden_dim"])
    head.load_state_dict(part(checkpoint, "head.mlp."))
    return computed | {"contrastive": head.eval()(prefix[:, 0])}


def make_backbone(config: dict, checkpoint: dict[str, torch.Tensor], distilled: bool) -> DeiTModel:
    """DINO's ViT, which may have two prefix tokens."""
    weight = checkpoint["patch_embed.proj.weight"]
    fields = {
        "image_size": config["img_size"],
        "patch_size": config["patch_size"],
        "hidden_size": len(weight),
        "num_hidden_layers": 12,
        "num_attention_heads": len(weight) // 64,
        "intermediate_size": 4 * len(weight),
        "distilled": distilled,
        "position_interpolation": "bicubic_offset",
    }
    backbone = build(DeiTModel, fields)
    names = ("cls_token", "pos_embed", "patch_embed.", "blocks.", "norm.")
    known = {name: value for name, value in checkpoint.items() if name.startswith(names)}
    load(backbone, apply_transforms(known, vit_renamings(""), backbone), "SiT")
    return backbone


def part(checkpoint: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Tensors whose keys begin with `prefix`, without it; for "" those of the transposed convolution."""
    return {key.removeprefix(prefix): v for key, v in checkpoint.items() if key.startswith(prefix or "convTrans")}


PREFIX_TOKENS = {1: ["rot_token", "contrastive_token"], 2: ["cls_token1", "cls_token2"], 3: ["cls_token"]}
NUM_PAINTING_LAYERS = {1: 0, 2: 2, 3: 3}

COMPUTE = {
    **dict.fromkeys(
        ["gen1_base_ssl", "gen2_vits16_224", "gen2_vitt16_64", "gen3_vits16", "gen3_vitb16"], compute_heads
    ),
    "gen1": compute_first_corruption,
    "gen1_loss": compute_multi_task_loss,
    "gen1_rotation": compute_rotation,
    "gen2_infonce": compute_infonce,
    "gen3": compute_later_corruption,
    "gen3_contrastive": compute_momentum_contrast,
    "gen3_replace_list": compute_replaced_list,
    "gen3_schedules": compute_schedules,
}
