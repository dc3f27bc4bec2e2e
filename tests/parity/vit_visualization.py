"""Golden cases of hamidkazemi22/vit-visualization: regularisers, augmentations, losses, optimisation, isolation."""

from typing import Any

import torch
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from hf_vits.analysis import visualization as vis
from hf_vits.analysis.taps import record
from hf_vits.models.vit.configuration_vit import ViTConfig
from hf_vits.models.vit.modeling_vit import ViTForImageClassification

from .golden import Case
from .self_supervision import tensors

ATTENTION_FACETS = {"in_feat": "attention_inputs", "keys": "keys", "queries": "queries", "values": "values"}
HEADS = 12  # that the original's head term assumes
HEAD = 5  # that the cases read
SCORE_HEAD = 1
DIAGONAL_COEFFICIENT = 2
OPTIONS_OF_TRAINING = ("attention_dropout_rate", "dropout_rate")


def compute(case: Case) -> dict[str, Tensor]:
    name = case.path.stem
    return next((run for start, run in COMPUTE.items() if name.startswith(start)), compute_losses)(case)


class Given(vis.Draws):
    """Random numbers of a case, in its order."""

    def __init__(self, uniform=(), normal=(), offsets=()):
        self.uniforms, self.normals, self.offsets = iter(uniform), iter(normal), iter(offsets)

    def uniform(self, *shape: int) -> Tensor:
        return next(self.uniforms)

    def normal(self, *shape: int) -> Tensor:
        return next(self.normals)

    def integer(self, low: int, high: int) -> int:
        value = int(next(self.offsets))
        assert low <= value <= high
        return value


def square(size: int | list[int]) -> int:
    return size if isinstance(size, int) else size[0]


def vit(case: Case) -> tuple[ViTForImageClassification, int]:
    """The case's ViT, in the layout of PyTorch-Pretrained-ViT, and the side of its images."""
    config: Any = case.config
    given = {key: torch.from_numpy(value) for key, value in case.checkpoint().items()}
    config.check(classifier="token")
    config.unused(*(name for name in (*OPTIONS_OF_TRAINING, "representation_size") if name in config))
    size, depth = square(config["image_size"]), config["num_layers"]
    fields = config.renamed({"dim": "hidden_size", "ff_dim": "intermediate_size", "num_heads": "num_attention_heads"})
    fields |= {"num_hidden_layers": depth, "patch_size": tuple(config["patches"]), "num_labels": config["num_classes"]}
    model = ViTForImageClassification(
        ViTConfig(image_size=size, hidden_act="gelu", layer_norm_eps=1e-6, position_interpolation="bilinear", **fields)
    )
    renamed = {
        "model.embeddings.prefix_tokens": given["class_token"],
        "model.embeddings.position_embedding.table": given["positional_embedding.pos_embedding"],
    }
    parts = {
        "model.embeddings.patch_embedding.projection": "patch_embedding",
        "model.norm": "norm",
        "classifier": "fc",
    }
    for layer in range(depth):
        ours, theirs = f"model.layers.{layer}.", f"transformer.blocks.{layer}."
        names = {"attention_norm": "norm1", "mlp_norm": "norm2", "mlp.up": "pwff.fc1", "mlp.down": "pwff.fc2"}
        names["attention.projection"] = "proj"
        parts |= {ours + mine: theirs + name for mine, name in names.items()}
        for leaf in ("weight", "bias"):
            qkv = [given[f"{theirs}attn.proj_{letter}.{leaf}"] for letter in "qkv"]
            renamed[f"{ours}attention.qkv.{leaf}"] = torch.cat(qkv)
    renamed |= {
        f"{ours}.{leaf}": given[f"{name}.{leaf}"] for ours, name in parts.items() for leaf in ("weight", "bias")
    }
    model.load_state_dict(renamed)
    return model.eval(), size


def image_model(case: Case) -> vis.ImageModel:
    model, size = vit(case)
    return vis.ImageModel(model, size).eval()


def patch_mean(values: Tensor) -> Tensor:
    return values[:, 1:].mean(dim=1)


def merged(values: Tensor) -> Tensor:
    """(batch, heads, tokens, channels) to (batch, tokens, heads * channels)."""
    return values.transpose(1, 2).flatten(2) if values.ndim == 4 else values


@torch.enable_grad()
def compute_losses(case: Case) -> dict[str, Tensor]:
    config: Any = case.config
    inputs = tensors(case)
    model = image_model(case)
    layer, feature = config["layer"], config["feature"]
    images = inputs["pixels"].sigmoid()

    def hidden(x: Tensor) -> Tensor:
        return vis.neurons(model, x, [layer], gradients=True)[0]

    def tapped(x: Tensor) -> dict[str, Tensor]:
        facets = [*ATTENTION_FACETS.values(), "attentions"]
        seen = record(model, x, facets, [layer], gradients=True)
        found = {name: merged(getattr(seen, facet)[0]) for name, facet in ATTENTION_FACETS.items()}
        found["scores"] = seen.attentions[0]
        return found | {"out_feat": merged(seen.attentions[0] @ seen.values[0])}

    terms = {
        "neuron": lambda x: vis.activation_term(patch_mean(hidden(x)), feature),
        "diagonal": lambda x: DIAGONAL_COEFFICIENT * vis.diagonal_term(patch_mean(hidden(x))),
        "score": lambda x: vis.score_term(tapped(x)["scores"][:, :, 1:, 1:], SCORE_HEAD),
        "head": lambda x: vis.head_term(patch_mean(tapped(x)["keys"]), HEAD, HEADS),
    }
    for name in (*ATTENTION_FACETS, "out_feat"):
        terms[name] = lambda x, name=name: vis.activation_term(patch_mean(tapped(x)[name]), feature)
    if "target" in inputs:
        terms["reconstruction"] = vis.inversion_loss(model, inputs["target"].sigmoid(), layer)
    terms[""] = terms["neuron"]
    computed = {}
    for output in case.meta["outputs"]:
        kind, _, name = output.partition("_")
        if kind == "loss" and name in terms:
            x = images.clone().requires_grad_()
            loss = terms[name](x)
            suffix = f"_{name}" if name else ""
            computed |= {f"loss{suffix}": loss, f"grad{suffix}": torch.autograd.grad(loss, x)[0]}
    with torch.no_grad():
        every = vis.neurons(model, images)
        computed |= tapped(images) | {
            "neurons": torch.cat([patch_mean(each) for each in every], dim=1),
            "neuron_map": every[layer][:, 1:, feature],
            "logits": model(images).logits,
        }
    return computed


@torch.enable_grad()
def compute_clip(case: Case) -> dict[str, Tensor]:
    config: Any = case.config
    given = {key: torch.from_numpy(value) for key, value in case.checkpoint().items()}
    size = config["image_size"]
    model = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=config["width"],
            intermediate_size=4 * config["width"],
            num_hidden_layers=config["layers"],
            num_attention_heads=config["heads"],
            patch_size=config["patch"],
            image_size=size,
            projection_dim=config["output_dim"],
            hidden_act="quick_gelu",
        )
    )
    renamed = {
        "vision_model.embeddings.class_embedding": given["class_embedding"],
        "vision_model.embeddings.position_embedding.weight": given["positional_embedding"],
        "vision_model.embeddings.patch_embedding.weight": given["conv1.weight"],
        "visual_projection.weight": given["proj"].T,
    }
    parts = {"vision_model.pre_layrnorm": "ln_pre", "vision_model.post_layernorm": "ln_post"}
    for layer in range(config["layers"]):
        ours, theirs = f"vision_model.encoder.layers.{layer}.", f"transformer.resblocks.{layer}."
        names = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
        names["self_attn.out_proj"] = "attn.out_proj"
        parts |= {ours + mine: theirs + name for mine, name in names.items()}
        for leaf in ("weight", "bias"):
            for letter, part in zip("qkv", given[f"{theirs}attn.in_proj_{leaf}"].chunk(3), strict=True):
                renamed[f"{ours}self_attn.{letter}_proj.{leaf}"] = part
    renamed |= {
        f"{ours}.{leaf}": given[f"{name}.{leaf}"] for ours, name in parts.items() for leaf in ("weight", "bias")
    }
    model.load_state_dict(renamed)
    wrapped = vis.ImageModel(model, size, OPENAI_CLIP_MEAN, OPENAI_CLIP_STD).eval()
    images = tensors(case)["pixels"].sigmoid().requires_grad_()
    layer, feature = config["layer"], config["feature"]
    values = vis.neurons(wrapped, images, [layer], gradients=True)[0]
    loss = vis.activation_term(vis.patch_means(wrapped, values), feature)
    computed = {"loss": loss, "grad": torch.autograd.grad(loss, images)[0]}
    every = vis.neurons(wrapped, images)
    return computed | {
        "neurons": torch.cat([patch_mean(each) for each in every], dim=1),
        "neuron_map": every[layer][:, 1:, feature],
        "embedding": wrapped(images).image_embeds,
    }


@torch.enable_grad()
def compute_regularisers(case: Case) -> dict[str, Tensor]:
    images, config = tensors(case)["images"], case.config
    terms = {
        "total_variation": vis.total_variation,
        "normal_variation": vis.normal_variation,
        "color_variation": vis.color_variation,
    }
    computed = {f"tv_p{p}": vis.total_variation(images, p) for p in (1, 2)}
    computed |= {f"l{p}": vis.mean_norm(images, p) for p in (1, 2)}
    for name, coefficient in config["coefficients"].items():
        x = images.clone().requires_grad_()
        value = vis.per_area(terms[name](x), x, config["size"])
        computed |= {name: coefficient * value, f"{name}_grad": torch.autograd.grad(value, x)[0]}
    return computed


def compute_augmentations(case: Case) -> dict[str, Tensor]:
    config: Any = case.config
    inputs = tensors(case)
    images, uniform, normal = inputs["images"], inputs["uniform"], inputs["normal"]
    config.check(batch=len(images), size=images.shape[-1])
    noise = vis.GaussianNoise(Given(normal=normal[1:]), config["gaussian_std"], config["gaussian_max_iter"])
    jitter = vis.Jitter(Given(offsets=inputs["offsets"].flatten()))
    flip = vis.Flip(Given(uniform=torch.tensor([0.2, 0.7])))
    centering = vis.Centering(Given(uniform=inputs["center"]), *config["centering"])
    original = inputs["original"]
    shapes = {name: spec["shape"] for name, spec in case.meta["outputs"].items()}
    tiled = images[: shapes["tile"][0]]
    repeated = shapes["repeat"][0]
    return {
        "color_jitter": vis.ColorJitter(Given(uniform=uniform[2:]))(images),
        "color_jitter_fixed": vis.ColorJitter(Given(uniform=uniform), mean=0.5, std=2.0, fixed=True)(images),
        "color_jitter_reverse": vis.ColorJitter(Given(uniform=uniform[4:]), reverse=True)(images),
        "gaussian_noise": torch.stack([noise(images) for _ in range(len(normal) - 1)]),
        "jitter": torch.stack([jitter(images) for _ in inputs["offsets"]]),
        "tile": vis.tile(tiled, shapes["tile"][-1] // images.shape[-1]),
        "repeat": images[:1].repeat_interleave(repeated, dim=0),
        "flip": torch.stack([flip(images) for _ in range(2)]),
        "centering": torch.stack([centering(images) for _ in inputs["center"]]),
        "zoom": vis.zoom(images[: shapes["zoom"][0]], config["zoom"]),
        "clip": vis.clip(images),
        "clip_std": vis.clip_deviation(images),
        "linf_clip": vis.clip_linf(images, original, config["linf"]),
        "l2_clip": vis.clip_l2(images, original, config["l2"]),
        "l2_clip_inside": vis.clip_l2(images, images + 1e-3, config["l2"]),
    }


def compute_optimisation(case: Case) -> dict[str, Tensor]:
    config: Any = case.config
    inputs = tensors(case)
    model = image_model(case)
    draws = Given(inputs["uniform"][2:], inputs["normal"][1:], inputs["offsets"].flatten())
    augmentation = vis.published_augmentation(
        draws, config["batch"], tuple(config["gaussian"]), config["jitter"], config["tile"]
    )
    coefficient = config["tv_coefficient"]
    config.check(tv=coefficient / 5e-4)
    loss = vis.neuron_loss(model, config["layer"], [config["feature"]], model.size[0], coefficient)
    images = []
    found = vis.optimise(
        inputs["start"],
        loss,
        augmentation,
        steps=config["steps"],
        learning_rate=config["lr"],
        betas=tuple(config["betas"]),
        eps=config["eps"],
        each_step=images.append,
    )
    return {"images": torch.cat([*images, found.images]), "losses": found.losses}


def compute_isolation(case: Case) -> dict[str, Tensor]:
    model, _ = vit(case)
    wrapped = image_model(case)
    images = tensors(case)["pixels"].sigmoid()
    depth = model.config.num_hidden_layers

    def run(layers: range) -> Tensor:
        with vis.isolated(wrapped, layers):
            return wrapped(images).logits

    reads = {"cls": "class", "all_tokens": "all", "patches": "patches", "one_token": case.config["one_token"]}
    pixels = 2 * torch.nn.functional.interpolate(images, size=wrapped.size, mode="bilinear") - 1
    computed = {f"logits_head_{name}": vis.read_out(model, pixels, tokens) for name, tokens in reads.items()}
    return computed | {
        "logits_isolated_first": torch.stack([run(range(layer)) for layer in range(depth + 1)]),
        "logits_cls_alone_after": torch.stack([run(range(layer, depth)) for layer in range(depth + 1)]),
        "logits": wrapped(images).logits,
    }


def compute_shifts(case: Case) -> dict[str, Tensor]:
    config = case.config
    return {"shifted": vis.shift_set(tensors(case)["image"], config["count_per_dim"], config["shift_per_dim"])}


COMPUTE = {
    "augmentations": compute_augmentations,
    "clip": compute_clip,
    "optimisation": compute_optimisation,
    "regularisers": compute_regularisers,
    "shift": compute_shifts,
    "token_isolation": compute_isolation,
}
