"""Golden cases of robustness protocols: metrics of several sources, and perturbations of a small ViT."""

from typing import Any

import numpy as np
import torch

from hf_vits.analysis.robustness import interventions
from hf_vits.conversion import convert
from hf_vits.metrics import calibration_error, corruption_error, flip_probability, information_loss, shape_bias

from .golden import Case
from .self_supervision import tensors

NORMS = ("rms", "mad", "max")


def compute(case: Case) -> dict[str, torch.Tensor]:
    config = case.config
    found = next((run for field, run in COMPUTE.items() if field in config), compute_model)
    return {name: torch.as_tensor(value) for name, value in found(case).items()}


def compute_calibration(case: Case) -> dict[str, Any]:
    inputs, size = case.inputs(), case.config["bin_size"]
    logits, labels, subset = inputs["logits"].copy(), inputs["labels"], inputs.get("class_subset")
    logits[np.arange(len(labels)), labels if subset is None else subset[labels]] += 2.5
    confidence, correct = calibration_error.confidences(logits, labels, subset)
    bins = [name for name in case.meta["outputs"] if name.startswith("ece_")]
    return {
        "accuracy": correct.mean(),
        **{
            f"{norm}_calibration_error": calibration_error.adaptive_error(confidence, correct, norm, size)
            for norm in NORMS
        },
        "aurra": calibration_error.aurra(confidence, correct),
        "soft_f1": calibration_error.soft_f1(confidence, correct),
        "confidence": confidence,
        "correct": correct.astype(np.float32),
        **{
            name: calibration_error.expected_error(confidence, correct, int(name.removeprefix("ece_")))
            for name in bins
        },
    }


def compute_corruptions(case: Case) -> dict[str, Any]:
    inputs, config = case.inputs(), case.config
    accuracy = inputs["accuracy"]
    assert len(accuracy) == len(config["corruptions"])
    alexnet = corruption_error.corruption_errors(accuracy, config["alexnet_errors"])
    computed = {
        "ce_alexnet": alexnet,
        "mce_alexnet": alexnet.mean(),
        "mean_accuracy": accuracy.mean(),
        "per_severity": accuracy.mean(axis=0),
    }
    if "baseline_accuracy" not in inputs:
        config.unused("clean_accuracy", "baseline_clean_accuracy")
        return computed
    baseline = 1 - inputs["baseline_accuracy"].mean(axis=1)
    errors = corruption_error.corruption_errors(accuracy, baseline)
    clean = 1 - config["clean_accuracy"], 1 - config["baseline_clean_accuracy"]
    relative = corruption_error.corruption_errors(accuracy, baseline, *clean)
    return computed | {
        "ce_baseline": errors,
        "mce_baseline": errors.mean(),
        "relative_ce_baseline": relative,
        "relative_mce_baseline": relative.mean(),
    }


def compute_flips(case: Case) -> dict[str, Any]:
    inputs, difficulty = case.inputs(), case.config["difficulty"]
    logits = inputs["sequence_logits"] + np.float32(0.4) * inputs["frame_logits"]
    predictions = logits.argmax(axis=-1)
    computed: dict[str, Any] = {"predictions": predictions}
    for name, is_noise in (("sequence", False), ("noise", True)):
        options = {"is_noise": is_noise, "difficulty": difficulty}
        computed[f"flip_probability_{name}"] = flip_probability.flip_probability(predictions, **options)
        for kind in ("top5", "zipf"):
            computed[f"{kind}_distance_{name}"] = flip_probability.rank_distance(logits, kind, **options)
    return computed


def compute_shape_bias(case: Case) -> dict[str, Any]:
    inputs = case.inputs()
    assert max(values.max() for values in inputs.values()) < len(case.config["categories"])
    return shape_bias.shape_bias(inputs["response"], inputs["shape"], inputs["texture"])


def compute_curves(case: Case) -> dict[str, Any]:
    inputs, levels = case.inputs(), case.config["levels"]
    clean, labels = inputs["logits"].copy(), inputs["labels"]
    clean[np.arange(len(labels)), labels] += 3
    lossy = [clean * (1 - level) + 2 * level * noise for level, noise in zip(levels, inputs["noise"], strict=True)]
    return information_loss.information_loss(lossy, labels, levels)


def compute_model(case: Case) -> dict[str, torch.Tensor]:
    config, inputs = case.config, tensors(case)
    model: Any = convert(
        "dino",
        "vit_small_patch16",
        case.checkpoint(),
        num_attention_heads=config["heads"],
        layer_norm_eps=config["layer_norm_eps"],
    )
    built, encoder = model.config, model.model
    config.check(
        image_size=built.image_size,
        patch=built.patch_size,
        embed_dim=built.hidden_size,
        depth=built.num_hidden_layers,
        num_classes=built.num_labels,
        mlp_ratio=built.intermediate_size / built.hidden_size,
        qkv_bias=built.qkv_bias,
    )
    size = inputs["fine"].shape[-2:]
    coarse = torch.nn.functional.interpolate(inputs["coarse"], size, mode="bilinear", align_corners=False)
    pixel_values = coarse + inputs["fine"]
    grid = encoder.embeddings.grid(*size)

    def without(part: str, count: int = 1) -> torch.Tensor:
        """Of `count` layers from each one on."""
        logits = []
        for first in range(built.num_hidden_layers - count + 1):
            with interventions.skipped(model, range(first, first + count), part):
                logits.append(model(pixel_values).logits)
        return torch.stack(logits)

    def restricted(distance: str) -> torch.Tensor:
        logits = []
        for radius in config["radii"]:
            with interventions.restricted_attention(model, interventions.near_mask(grid, radius, distance)):
                logits.append(model(pixel_values).logits)
        return torch.stack(logits)

    states = encoder(pixel_values, output_hidden_states=True).hidden_states
    computed = {
        "logits": model(pixel_values).logits,
        "logits_without_block": without("layer"),
        "logits_without_attn": without("attention"),
        "logits_without_mlp": without("mlp"),
        "logits_without_pairs": without("layer", 2),
        **{
            f"logits_restricted_{distance}": restricted(distance)
            for distance in ("chebyshev", "manhattan", "euclidean")
        },
        "block_update_ratio_cls": interventions.update_ratios([state[:, 0] for state in states]),
    }
    for part, tokens in (("cls", slice(0, 1)), ("spatial", slice(1, None))):
        parts = [state[:, tokens] for state in states[1:]]
        computed[f"layer_cosine_{part}"] = interventions.similarity(parts)
        computed[f"layer_pearson_{part}"] = interventions.similarity(parts, centred=True)
    return computed


COMPUTE = {
    "bin_size": compute_calibration,
    "corruptions": compute_corruptions,
    "difficulty": compute_flips,
    "categories": compute_shape_bias,
    "levels": compute_curves,
}
