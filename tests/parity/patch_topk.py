"""Golden cases of google-research/google-research, ptopk_patch_selection."""

import re

import torch
from torch.func import functional_call

from hf_vits.conversion import convert
from hf_vits.conversion.core import apply_transforms, system
from hf_vits.layers.topk import indicators_of, perturbed_topk, sinkhorn_topk, topk_indices
from hf_vits.models.patch_topk.configuration_patch_selection import normalization_steps
from hf_vits.models.patch_topk.scorer_patch_selection import ScoreNormalization

from .golden import Case, Config

METHODS = {"topk": "sinkhorn_topk", "perturbed-topk": "perturbed_topk", "hard-topk": "hard_topk", "random": "random"}
AGGREGATIONS = {"meanpooling": "mean", "maxpooling": "max", "sum-layernorm": "sum_layer_norm"}
ORDERS = {"none": "descending", "position": "position", "values": "ascending"}
POOLINGS = {"CLS": "cls"}


def compute(case: Case) -> dict[str, torch.Tensor]:
    config = case.config
    if "names" in config:
        return compute_normalizations(case)
    if not case.meta["keys"]:
        return compute_sinkhorn(case) if "epsilon" in config else compute_perturbed(case)
    with torch.enable_grad():
        return compute_model(case)


def tensors(case: Case) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value) for name, value in case.inputs().items()}


def compute_normalizations(case: Case) -> dict[str, torch.Tensor]:
    scores = tensors(case)["scores"]
    names = case.config["names"]
    return {name: ScoreNormalization(normalization_steps(name), scores.shape[1])(scores) for name in names}


@torch.enable_grad()
def compute_perturbed(case: Case) -> dict[str, torch.Tensor]:
    config, inputs = case.config, tensors(case)
    scores, k = inputs["scores"], config["k"]

    def indicators(scores: torch.Tensor) -> torch.Tensor:
        options = {"num_samples": config["num_samples"], "order": ORDERS[config["sort_by"] or "none"]}
        return perturbed_topk(scores[None], k, config["sigma"], noise=inputs["noise"][None], **options)[0]

    leaf = scores.clone().requires_grad_()
    values = indicators(leaf)
    computed = {"indicators": values, "jacobian": torch.autograd.functional.jacobian(indicators, scores)}
    if "cotangent" in inputs:
        computed["grad"] = torch.autograd.grad(values, leaf, inputs["cotangent"])[0]
    for name, order in ORDERS.items():
        chosen = topk_indices(scores, k, order)
        computed[f"hard_sorted_by_{name}"] = indicators_of(chosen, len(scores))
    return computed


@torch.enable_grad()
def compute_sinkhorn(case: Case) -> dict[str, torch.Tensor]:
    config, inputs = case.config, tensors(case)
    scores = ScoreNormalization([("zerooneeps", 1e-5)], 0)(inputs["raw"][None]).requires_grad_()
    assignment = sinkhorn_topk(scores, config["k"], config["epsilon"], config["num_iterations"])[0].T
    computed = {"scores": scores[0], "assignment": assignment}
    if "cotangent" in inputs:
        computed["grad"] = torch.autograd.grad(assignment, scores, inputs["cotangent"])[0][0]
    return computed


def compute_model(case: Case) -> dict[str, torch.Tensor]:
    """Run a model on the original's own tensors, whose gradients and statistics are then the original's."""
    config, inputs = case.config, tensors(case)
    variant, overrides = fields_of(case)
    checkpoint = case.checkpoint()
    model = convert("patch_topk", variant, checkpoint, **overrides)
    check(config, model.config)
    model.train(config["train"])
    names = ("model_params/", "model_state/")
    original = {key: torch.from_numpy(value) for key, value in checkpoint.items()}
    for key, value in original.items():
        value.requires_grad_(key.startswith(names[0]))
    module = system("patch_topk")
    prepared = module.prepare(original, model.config.to_dict())
    weights = apply_transforms(prepared, module.transforms(model.config), model)
    weights |= {key: differentiable(key, prepared) for key in weights if ".attention.qkv." in key}
    arguments = {"pixel_values": inputs["image"].movedim(-1, 1), "labels": inputs["label"].long()}
    if "noise" in inputs:
        arguments["selection_noise"] = inputs["noise"]
    outputs = functional_call(model, weights, kwargs=arguments)
    computed = parts_of(case, outputs) if "ptopk_sigma" in config else patches_of(case, outputs)
    computed["loss"] = outputs.loss[None]
    if (multiplier := weights.get("model.perturbed.sigma_multiplier")) is not None:
        computed["sigma"] = (model.config.sigma * multiplier).reshape(1)
    wanted = [name for name in case.meta["outputs"] if name.startswith("grad")]
    if wanted:
        outputs.loss.backward()
        order = case.meta["grad_order"]
        gradients = {key: torch.zeros(()) if original[key].grad is None else original[key].grad for key in order}
        computed["grad_norms"] = torch.stack([gradient.norm() for gradient in gradients.values()])
        computed |= {f"grad/{key.removeprefix(names[0])}": value for key, value in gradients.items()}
    states = {key: value for key, value in original.items() if key.startswith(names[1])}
    return computed | {f"new_state/{key.removeprefix(names[1])}": value for key, value in states.items()}


def differentiable(key: str, prepared: dict[str, torch.Tensor]) -> torch.Tensor:
    """A fused projection with the gradients of its parts, which transformers joins without."""
    layer, leaf = re.search(r"layers\.(\d+)\.attention\.qkv\.(\w+)", key).groups()
    place = rf".TransformerLayer_{layer}.MultiHeadDotProductAttention_0."
    parts = [f"{place}{name}.{leaf}" for name in ("query", "key", "value")]
    return torch.cat([tensor for part in parts for name, tensor in prepared.items() if name.endswith(part)])


def patches_of(case: Case, outputs) -> dict[str, torch.Tensor]:
    """Outputs of PatchNet, or of a network on whole images."""
    labels = torch.from_numpy(case.inputs()["label"]).long()
    entropy = torch.nn.functional.cross_entropy(outputs.logits, labels)
    computed = {"logits": outputs.logits, "cross_entropy": entropy[None]}
    if "patches" not in outputs:
        return computed
    for name in ("entropy", "entropy_before_normalization"):
        if name in outputs:
            computed[name] = outputs[name].mean()[None]
    if "scores" in outputs:
        computed["scores"] = outputs.scores[..., None]
    computed["patch_representations"] = outputs.patch_features
    computed["indices"] = outputs.indices.float()
    patches = outputs.patches.movedim(2, -1)
    if case.config.get("append_position_to_input"):
        patches = patches[..., :-2]
    computed |= {"patch_top_left": patches[:, :, 0, 0], "patch_bottom_right": patches[:, :, -1, -1]}
    computed |= {"patch_mean": patches.mean((2, 3)), "patches_strided": patches[:, :, ::9, ::9]}
    return computed | statistics(outputs.indicators)


def parts_of(case: Case, outputs) -> dict[str, torch.Tensor]:
    """Outputs of NTS-Net. Its raw scores are listed cell by cell, the scores to select from anchor by anchor."""
    config = case.config
    cells = [-(-side // 32) for side in config["image_size"]]
    raw, start = [], 0
    for level, anchors in enumerate((6, 6, 9)):
        rows, columns = (-(-side // 2**level) for side in cells)
        part = outputs.scores[:, start : start + anchors * rows * columns]
        raw.append(part.unflatten(1, (anchors, -1)).transpose(1, 2).flatten(1))
        start += anchors * rows * columns
    patches = outputs.patches.movedim(2, -1)
    return {
        "concat_logits": outputs.logits,
        "raw_logits": outputs.image_logits,
        "part_logits": outputs.part_logits,
        "raw_scores": torch.cat(raw, dim=1),
        "entropy": outputs.entropy.mean()[None],
        "part_mean": patches.mean((2, 3)),
        "parts_strided": patches[:, :, ::21, ::21],
        **statistics(outputs.indicators),
    }


def statistics(indicators: torch.Tensor) -> dict[str, torch.Tensor]:
    """The indicators (batch, cells, k), and what the cases hold of them for each patch."""
    places = torch.arange(indicators.shape[2]) / indicators.shape[2]
    return {
        "indicators": indicators.transpose(1, 2),
        "indicators_sum": indicators.sum(2),
        "indicators_max": indicators.amax(2),
        "indicators_argmax": indicators.argmax(2).float(),
        "indicators_center": (indicators * places).sum(2),
    }


def fields_of(case: Case) -> tuple[str, dict]:
    """The nearest variant, and every field of the configuration that the original reads of the case's."""
    config = case.config
    fields = {"image_size": config["image_size"]}
    fields["sigma_schedule"] = "linear" if config.get("linear_decrease_perturbed_sigma") else "constant"
    if "ptopk_sigma" in config:
        fields |= config.renamed({"k": "num_parts", "ptopk_sigma": "sigma", "ptopk_num_samples": "num_samples"})
        fields |= config.renamed({"entropy_regularizer": "entropy_weight"})
        return "birds200_topk", fields | {"dropout_prob": 0.0, "hidden_dropout_prob": 0.0}
    if config["model"].lower() != "patchnet":
        del fields["sigma_schedule"]
        return "trafficsigns_cnn", fields | config.renamed({"append_position_to_input": "append_position"})
    names = {"k": "num_patches", "patch_size": "patch_size", "downscale": "downscale"}
    names |= {"normalization_str": "score_normalization", "entropy_regularizer": "entropy_weight"}
    names |= {name: name for name in ("entropy_before_normalization", "hard_topk_probability")}
    names |= {"random_patch_probability": "random_patch_probability", "patch_dropout": "patch_dropout"}
    fields |= {"entropy_weight": 0.0, "entropy_before_normalization": False} | config.renamed(names)
    fields["selection_method"] = METHODS[config["selection_method"]]
    fields["inference_selection_method"] = METHODS.get(config.get("selection_method_inference"))
    fields |= (config.get("perturbed_topk_kwargs") or Config({})).renamed(
        {"num_samples": "num_samples", "sigma": "sigma"}
    )
    sinkhorn = {"epsilon": "sinkhorn_epsilon", "num_iterations": "sinkhorn_iterations"}
    fields |= (config.get("sinkhorn_topk_kwargs") or Config({})).renamed(sinkhorn)
    method = config["aggregation_method"]
    fields["aggregation_method"] = AGGREGATIONS.get(method, method)
    kwargs = config.get("aggregation_method_kwargs") or Config({})
    if method == "transformer":
        fields |= kwargs.renamed({"num_heads": "num_attention_heads"})
        pooling = kwargs["pooling"]
        fields |= {"pooling": POOLINGS.get(pooling, pooling), "hidden_dropout_prob": 0.0}
    return ("billiard_topk" if method == "transformer" else "trafficsigns_topk"), fields


def check(config: Config, built) -> None:
    """Compare what the file recorded of the model with the case's configuration."""
    config.check(num_classes=built.num_labels)
    if "ptopk_sigma" in config:
        config.check(communication=built.communication, selection_method="perturbed-topk")
        return
    network = getattr(built, "feature_config", built)
    name = config["feature_network" if config["model"].lower() == "patchnet" else "model"].lower()
    kinds = {"ats-traffic": "ats", "cnn": "flat"}
    assert network.network == kinds.get(name, "resnet")
    if config["model"].lower() != "patchnet":
        return
    config.check(scorer_has_se=built.scorer_squeeze_excitation, append_position_to_input=built.append_position)
    kwargs = config.get("aggregation_method_kwargs") or Config({})
    if built.aggregation_method == "transformer":
        kwargs.check(num_layers=built.num_hidden_layers)
        assert kwargs.get("dim_hidden") in (None, built.hidden_size)
    else:
        kwargs.unused(*kwargs)
