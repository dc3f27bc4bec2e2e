"""Golden cases of Sara-Ahmed/SiT, three generations: models, steps, losses, corruptions, schedules."""

import random

import numpy as np
import torch

from hf_vits.conversion import convert
from hf_vits.conversion.core import apply_transforms
from hf_vits.conversion.systems import sit
from hf_vits.objectives import MomentumContrastLoss, NTXentLoss, SiTLoss
from hf_vits.objectives import corruptions as paint
from hf_vits.objectives.sit import TASK_SCALES
from hf_vits.pretraining.sit.modeling_sit import SiTForPreTraining, SiTOutput

from .golden import Case, Config
from .record import eager_attentions
from .self_distillation import HEADS, check_backbone, compute_steps
from .self_supervision import compute_schedules, tensors


def compute(case: Case) -> dict[str, torch.Tensor]:
    return next(function for start, function in COMPUTE.items() if case.path.stem.startswith(start))(case)


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
    case.config.check(batch=len(inputs["contr_1"]), adjustments=TASK_SCALES)
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
        corrupted = paint.corrupt(image, [generator] * len(image), [noise] * len(image))
    else:
        corrupted = image.clone()
        smallest = case.config.renamed({"tolr": "smallest"})
        blur = case.config.renamed({"max_kernSz": "largest_kernel", "gauss": "largest_deviation"}) | smallest
        blocks = case.config.renamed({"max_drop": "largest_fraction", "max_block_sz": "largest_side"}) | smallest
        {
            "gray": lambda: paint.gray_block(corrupted, generator, **smallest),
            "blur": lambda: paint.blur_block(corrupted, generator, **blur),
            "noise": lambda: paint.replace_blocks(corrupted, generator, noise=noise, **blocks),
            "replace": lambda: paint.replace_blocks(corrupted, generator, other=inputs["other"], **blocks),
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
        largest_fraction=config["max_replace"],
        align=config["align"],
        largest_side=config.get("max_block_sz", 0.3),
        other=inputs.get("other"),
        noise=torch.Generator().manual_seed(config["seed"]),
    )
    return {"corrupted": corrupted, "mask": mask.float(), "draws": torch.tensor(generator.drawn)}


def compute_replaced_list(case: Case) -> dict[str, torch.Tensor]:
    """datasets/datasets_utils.py, `GMML_replace_list`."""
    inputs, config = tensors(case), case.config
    gate, generator = random.Random(config["seed"]), np.random.RandomState(config["seed"])
    share = 1 / (len(config["drop_type"].split("-")) + 1)
    corrupted, mask = paint.mix_blocks(
        inputs["samples"],
        inputs["corrupted"],
        inputs["masks"][:, 0] > 0,
        [gate.random() < share for _ in inputs["samples"]],
        [generator] * len(inputs["samples"]),
        largest_fraction=config["max_replace"],
        align=config["align"],
    )
    return {"corrupted": corrupted, "mask": mask.float()}


def generation(case: Case) -> int:
    """By the tokens that a checkpoint has."""
    leaves = {key.rpartition(".")[2] for key in case.meta["keys"]}
    return next((number for number, tokens in enumerate(sit.TOKENS, start=1) if leaves.issuperset(tokens)), 3)


def backbone_fields(config: Config) -> dict:
    """What no tensor records."""
    return {"num_attention_heads": config["num_heads"] if "num_heads" in config else HEADS[config["arch"]]}


def full_model(case: Case, **overrides) -> SiTForPreTraining:
    config, name = case.config, f"gen{generation(case)}_vit_base_patch16_full"
    fields = backbone_fields(config)
    if "drop_path" in config:
        fields["drop_path_rate"] = config["drop_path"]
    if generation(case) > 1:
        name = name.replace("base", "small")
    model = convert("sit", name, case.checkpoint(), backbone_config=fields, **overrides)
    built = model.config
    check_backbone(config, built.backbone_config)
    config.check(
        contrastive_dim=built.embedding_size,
        simCLR_outdim=built.embedding_size,
        out_dim=built.embedding_size,
        hidden_dim=built.head_hidden_size,
        cls_hidden_dim=built.head_hidden_size,
        training_mode="SSL",
    )
    return model


def compute_model(case: Case) -> dict[str, torch.Tensor]:
    """A state of training, whose student sees an image."""
    model = full_model(case)
    pixel_values = tensors(case)["pixel_values"]
    logits, embeddings, painted = model.student(pixel_values)
    backbone = model.student.backbone
    computed = {
        "features": backbone(pixel_values).last_hidden_state,
        "rotation_logits": logits,
        "contrastive": embeddings,
        "reconstruction": painted,
    }
    if "uncertainty_weights" in case.meta["outputs"]:
        weights = model.objective.weighting.weights
        computed["uncertainty_weights"] = torch.cat([weights[task] for task in TASK_SCALES])
    if "last_attention" in case.meta["outputs"]:
        computed["last_attention"] = eager_attentions(backbone, pixel_values=pixel_values)[-1]
    return computed


def compute_classifier(case: Case) -> dict[str, torch.Tensor]:
    model = convert("sit", "gen1_vit_base_patch16_finetuned", case.checkpoint(), **backbone_fields(case.config))
    check_backbone(case.config, model.config)
    case.config.check(num_classes=model.config.num_labels, training_mode="finetune")
    pixel_values = tensors(case)["pixel_values"]
    outputs = model(pixel_values)
    rotation, contrastive = outputs.token_logits.unbind(1)
    return {
        "rotation_branch_logits": rotation,
        "contrastive_branch_logits": contrastive,
        "prediction": outputs.logits,
        "features": model.model(pixel_values).last_hidden_state,
    }


def parts(outputs: SiTOutput) -> dict[str, torch.Tensor]:
    return {task: getattr(outputs, f"{task}_loss") for task in TASK_SCALES}


def original(model: SiTForPreTraining, name: str, read) -> torch.Tensor:
    """Return `read` of the parameter called `name` in generations 1 and 2; their tokens are rows of one tensor."""
    for tokens in sit.TOKENS:
        if (token := name.removeprefix("backbone.")) in tokens:
            prefix_tokens = read(model.student.backbone.embeddings.prefix_tokens)
            return prefix_tokens[:, tokens.index(token)][:, None]
    spelled = sit.training_tensors({name: torch.empty(0)}, {"momentum_teacher": False})
    (ours,) = apply_transforms(spelled, sit.transforms(model.config))
    return read(model.get_parameter(ours))


@torch.enable_grad()
def compute_first_step(case: Case) -> dict[str, torch.Tensor]:
    """engine.py, `train_SSL`."""
    config, inputs = case.config, tensors(case)
    config.check(optimizer="AdamW")
    model = full_model(case).train()
    outputs = model(
        pixel_values=torch.stack([inputs["imgs1"], inputs["imgs2"]], dim=1),
        corrupted_pixel_values=torch.stack([inputs["imgs1_corrupted"], inputs["imgs2_corrupted"]], dim=1),
        rotation_labels=torch.stack([inputs["rots1"], inputs["rots2"]], dim=1).long(),
    )
    outputs.loss.backward()
    torch.optim.AdamW(model.parameters(), lr=config["lr"], weight_decay=config["weight_decay"]).step()
    computed = {"loss": outputs.loss[None]} | {f"loss_{task}": loss[None] for task, loss in parts(outputs).items()}
    for output in case.meta["outputs"]:
        kind, _, name = output.partition("/")
        if name:
            computed[output] = original(model, name, lambda p, kind=kind: p.grad if kind == "grad" else p.detach())
    return computed


@torch.enable_grad()
def compute_second_step(case: Case) -> dict[str, torch.Tensor]:
    """main.py, `FullpiplineSiT`."""
    config, inputs = case.config, tensors(case)
    overrides = {"corrupted_only": bool(config["drop_only"]), "temperature": config["simCLR_temp"]}
    model = full_model(case, **overrides).train()
    config.check(use_uncert=int(model.config.weighting is not None))
    clean, corrupted, mask = (
        torch.stack([inputs[f"{name}{view}"] for view in (1, 2)], dim=1) for name in ("im", "corr", "mask")
    )
    outputs = model(clean, corrupted, one_channel(mask), inputs["rot"].view(2, -1).T.long())
    outputs.loss.backward()
    losses = parts(outputs)
    weighted = losses
    if config["use_uncert"]:
        weighted = {task: model.objective.weighting.weigh(task, loss) for task, loss in losses.items()}
    computed = {"loss": outputs.loss[None], "reconstruction": outputs.reconstruction.flatten(0, 1)}
    computed |= {f"loss_{task}": loss[None] for task, loss in losses.items()}
    computed |= {f"weighted_{task}": loss[None] for task, loss in weighted.items()}
    for output in case.meta["outputs"]:
        if output.startswith("grad/"):
            computed[output] = original(model, output.removeprefix("grad/"), lambda p: p.grad)
    return computed


def compute_third_steps(case: Case) -> dict[str, torch.Tensor]:
    """main.py, `train_one_epoch`."""
    config, inputs = case.config, tensors(case)
    overrides = {"temperature": config["simclr_temp"], "reconstruction_weight": float(config["lmbda"])}
    model = full_model(case, **overrides).train()

    def forward(step: int):
        clean, corrupted, mask = (
            torch.stack([inputs[f"step{step + 1}_{name}{view}"] for view in (1, 2)], dim=1)
            for name in ("clean", "corrupted", "mask")
        )
        outputs = model(clean, corrupted, one_channel(mask))
        return outputs, {"c_loss": outputs.contrastive_loss, "r_loss": outputs.reconstruction_loss}

    return compute_steps(case, model, {}, forward)


def one_channel(mask: torch.Tensor) -> torch.Tensor:
    """(batch, views, channels, height, width), alike in all channels, to (batch, views, height, width)."""
    assert torch.equal(mask, mask[:, :, :1].expand_as(mask))
    return mask[:, :, 0] > 0


# By how the names of cases begin; what begins with nothing else is a model.
COMPUTE = {
    "gen1_loss": compute_multi_task_loss,
    "gen1_rotation": compute_rotation,
    "gen1_corrupt": compute_first_corruption,
    "gen1_step": compute_first_step,
    "gen1_base_finetune": compute_classifier,
    "gen2_infonce": compute_infonce,
    "gen2_step": compute_second_step,
    "gen3_corrupt": compute_later_corruption,
    "gen3_contrastive": compute_momentum_contrast,
    "gen3_replace_list": compute_replaced_list,
    "gen3_schedules": compute_schedules,
    "gen3_step": compute_third_steps,
    "gen": compute_model,
}
