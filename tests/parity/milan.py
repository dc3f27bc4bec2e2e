"""Golden cases of zejiangh/MILAN: pre-training, CLIP's image tower, classifiers, loss, masks, schedules, steps."""

import torch

from hf_vits.conversion import convert
from hf_vits.conversion.core import apply_transforms
from hf_vits.conversion.systems import mae, milan
from hf_vits.layers.patch import take_tokens
from hf_vits.layers.position import sine_cosine_positions_2d
from hf_vits.models.vit.configuration_vit import ViTConfig
from hf_vits.models.vit.modeling_vit import ViTForImageClassification
from hf_vits.objectives import FeatureRegression, MaskedPatchRegression
from hf_vits.objectives.masks import RandomMask, mask_by_order, random_mask, semantic_order
from hf_vits.optim.optimizers import parameter_groups
from hf_vits.optim.schedules import learning_rate
from hf_vits.pretraining.milan.modeling_milan import MILANForPreTraining
from hf_vits.pretraining.milan.target_milan import describe
from hf_vits.recipe import OptimizerRecipe, ScheduleRecipe

from .golden import Case
from .record import eager_attentions, recording
from .self_supervision import tensors


def compute(case: Case) -> dict[str, torch.Tensor]:
    return COMPUTE[case.path.stem.split("_")[0]](case)


def pretraining_model(case: Case) -> MILANForPreTraining:
    """The model of a case, whose options the configuration names; the sizes follow from the file."""
    config, checkpoint = case.config, case.checkpoint()
    variant = config.get("arch", "mae_vit_base_patch16")
    ordinary = "decoder_blocks.0.attn.qkv.weight" in checkpoint
    fields = config.renamed({"mask_ratio": "mask_ratio", "norm_pix_loss": "normalize_targets"})
    fields |= config.renamed({"decoder_num_heads": "decoder_num_attention_heads"})
    fields["backbone_config"] = config.renamed(
        {"num_heads": "num_attention_heads", "layer_norm_eps": "layer_norm_eps"}
    )
    fields["decoder_type"] = "ordinary" if ordinary else "prompting"
    fields["masking"] = "semantic" if config.get("attn_mask", not ordinary) else "random"
    if "use_clip" in config:
        fields["target"] = "features" if config["use_clip"] else "pixels"
    elif not any("clip" in name for name in case.meta["inputs"]):
        fields["target"] = "pixels"
    model = convert("milan", variant, checkpoint, **fields)
    built, backbone = model.config, model.config.backbone_config
    config.check(
        img_size=backbone.image_size,
        patch_size=backbone.patch_size,
        in_chans=backbone.num_channels,
        embed_dim=backbone.hidden_size,
        depth=backbone.num_hidden_layers,
        mlp_ratio=backbone.intermediate_size / backbone.hidden_size,
        decoder_embed_dim=built.decoder_hidden_size,
        decoder_depth=built.decoder_num_hidden_layers,
        target_dim=built.output_size,
    )
    return model


def order_of(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """The permutation of a case, given as such or by random numbers."""
    return inputs["ids_shuffle"] if "ids_shuffle" in inputs else inputs["noise"].argsort(dim=1)


def compute_pretraining(case: Case) -> dict[str, torch.Tensor]:
    model, inputs = pretraining_model(case), tensors(case)
    with recording({"decoder_embedded": model.decoder.embedding}) as seen:
        outputs = model(inputs["pixel_values"], inputs.get("clip_features"), order=order_of(inputs))
    return seen | {
        "latent": outputs.last_hidden_state,
        "pred": outputs.logits,
        "loss": outputs.loss[None],
        "mask": outputs.mask.float(),
        "ids_restore": outputs.ids_restore,
    }


def compute_clip(case: Case) -> dict[str, torch.Tensor]:
    config, pixel_values = case.config, tensors(case)["pixel_values"]
    model = convert("milan", "clip_vit_base_patch16", case.checkpoint())
    built = model.config
    config.check(
        input_resolution=built.image_size,
        patch_size=built.patch_size,
        width=built.hidden_size,
        layers=built.num_hidden_layers,
        heads=built.num_attention_heads,
        output_dim=built.projection_dim,
    )
    side = built.image_size // built.patch_size
    features, importance = describe(model, pixel_values, (side, side))
    attention = eager_attentions(model, pixel_values=pixel_values)[-1].mean(dim=1)
    return {"features": features, "attention_head_mean": attention, "importance": importance}


def compute_classifier(case: Case) -> dict[str, torch.Tensor]:
    config, checkpoint = case.config, case.checkpoint()
    model = convert("milan", config["arch"], checkpoint)
    config.check(global_pool=model.config.pooling == "mean", num_classes=model.config.num_labels)
    features = model.model(tensors(case)["pixel_values"]).pooler_output
    return {"features": features, "logits": model.classifier(features)}


@torch.enable_grad()
def compute_loss(case: Case) -> dict[str, torch.Tensor]:
    inputs = tensors(case)
    predicted = inputs["pred"].requires_grad_()
    if "clip_features" in inputs:
        loss, _ = FeatureRegression()(predicted, inputs["clip_features"])
    else:
        objective = MaskedPatchRegression(case.config.get("norm_pix_loss", False))
        loss, _ = objective(predicted, inputs["target"], inputs["mask"])
    loss.backward()
    return {"loss": loss[None], "grad_pred": predicted.grad}


def compute_masks(case: Case) -> dict[str, torch.Tensor]:
    config, inputs = case.config, tensors(case)
    ratio = config["mask_ratio"]
    if "importance" in inputs:
        generator = torch.Generator().manual_seed(config["torch_manual_seed"])
        masking = mask_by_order(semantic_order(inputs["importance"], generator), ratio)
    else:
        masking = random_mask(inputs["noise"], ratio)
    return described(masking) | {"x_kept": take_tokens(inputs["x"], masking.kept)}


def described(masking: RandomMask) -> dict[str, torch.Tensor]:
    return {
        "mask": masking.mask.float(),
        "ids_restore": masking.restore,
        "ids_shuffle": torch.cat([masking.kept, masking.removed], dim=1),
        "ids_keep": masking.kept,
        "ids_dump": masking.removed,
    }


def schedule_of(config):
    """The learning rate of a case, from the epoch."""
    recipe = ScheduleRecipe(
        warmup=f"{config['warmup_epochs']} epochs", min_learning_rate=float(config.get("min_lr", 0))
    )
    peak = config["lr"] if "lr" in config else config["base_lr"]
    return learning_rate(recipe, peak, config["epochs"], steps_per_epoch=1)


def compute_schedules(case: Case) -> dict[str, torch.Tensor]:
    config, computed = case.config, {}
    rate = schedule_of(config)
    steps = case.meta["outputs"]["lr_every_half_epoch"]["shape"][0]
    computed["lr_every_half_epoch"] = torch.tensor([rate(step / 2) for step in range(steps)], dtype=torch.float64)
    rows = config["layer_decay_rows"]
    depth = 1 + max(int(name.split(".")[1]) for name in rows if name.startswith("blocks."))
    sizes = {"hidden_size": 4, "num_attention_heads": 1, "intermediate_size": 4, "num_hidden_layers": depth}
    model = ViTForImageClassification(ViTConfig(**sizes, pooling="mean", norm_after_pooling=True))
    recipe = OptimizerRecipe(learning_rate=1.0, layer_decay=config["layer_decay"], weight_decay=config["weight_decay"])
    groups = {name: group for group in parameter_groups(model, recipe) for name in group["names"]}
    ours = apply_transforms({name: torch.empty(0) for name in rows}, mae.transforms(model.config))
    computed["layer_decay_scale_and_wd"] = torch.tensor(
        [(groups[name]["lr"], groups[name]["weight_decay"]) for name in ours], dtype=torch.float64
    )
    for name, spec in case.meta["outputs"].items():
        if name.startswith("pos_embed_"):
            side, channels = int(name.split("_")[2].split("x")[0]), spec["shape"][1]
            table = sine_cosine_positions_2d((side, side), channels, include_end=False)
            computed[name] = torch.nn.functional.pad(table, (0, 0, 1, 0))[0]
    return computed


@torch.enable_grad()
def compute_steps(case: Case) -> dict[str, torch.Tensor]:
    """Iterations of the original's training function, with our optimizer's groups and schedule."""
    config, inputs = case.config, tensors(case)
    model = pretraining_model(case).train()
    name, betas = config["optimizer"].split(" betas ")
    recipe = OptimizerRecipe(
        learning_rate=1.0,
        weight_decay=config["weight_decay"],
        no_decay=[],
        options={"betas": [float(beta) for beta in betas.strip("()").split(",")]},
    )
    assert name == "AdamW", f"no such optimizer here: {name}"
    optimizer = torch.optim.AdamW(parameter_groups(model, recipe), **recipe.options)
    rate, renamings = schedule_of(config), milan.transforms(model.config)
    parameters, computed = dict(model.named_parameters()), {}
    steps = {int(name.split("_")[0].removeprefix("step")) for name in inputs}
    for step in sorted(steps):
        batch = {name.split("_", 1)[1]: value for name, value in inputs.items() if name.startswith(f"step{step}_")}
        for group in optimizer.param_groups:
            group["lr"] = rate((step - 1) / config["iterations_per_epoch"])
        optimizer.zero_grad()
        outputs = model(batch["pixel_values"], batch.get("clip_features"), order=order_of(batch))
        outputs.loss.backward()
        optimizer.step()
        computed |= {f"step{step}/loss": outputs.loss[None], f"step{step}/lr": torch.tensor([group["lr"]])}
        for output in case.meta["outputs"]:
            when, _, rest = output.partition("/")
            kind, _, theirs = rest.partition("/")
            if when == f"step{step}" and theirs:
                (ours,) = apply_transforms({theirs: torch.empty(0)}, renamings)
                computed[output] = (
                    parameters[ours].grad.clone() if kind == "grad" else parameters[ours].detach().clone()
                )
    return computed


COMPUTE = {
    "pretrain": compute_pretraining,
    "mae": compute_pretraining,
    "clip": compute_clip,
    "finetune": compute_classifier,
    "linprobe": compute_classifier,
    "loss": compute_loss,
    "masks": compute_masks,
    "schedules": compute_schedules,
    "step": compute_steps,
}
