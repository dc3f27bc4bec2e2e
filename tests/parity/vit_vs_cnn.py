"""Golden cases of "Do Vision Transformers See Like Convolutional Neural Networks?" (arXiv 2108.08810)."""

import torch
from torch.nn.functional import interpolate

from hf_vits.analysis.attention import attention_distance, rollout, sorted_by_layer, token_distances
from hf_vits.analysis.branches import norm_ratio
from hf_vits.analysis.representation import (
    MinibatchCKA,
    accuracy,
    cka,
    gram,
    hsic,
    localisation,
    pixel_patches,
    receptive_field,
    ridge_probe,
)
from hf_vits.analysis.taps import record

from .golden import Case
from .self_supervision import tensors
from .vit_analysis import encoder, numbered


def compute(case: Case) -> dict[str, torch.Tensor]:
    name = case.path.stem
    return next((run for part, run in COMPUTE.items() if part in name), compute_model)(case)


def compute_distance(case: Case) -> dict[str, torch.Tensor]:
    config = case.config
    attention = tensors(case)["attention_logits"].double().softmax(dim=-1)
    side, patch, special = config["grid"], config["patch"], config["special_tokens"]
    rows, columns = (side, side) if isinstance(side, int) else side
    options = {"grid": (rows, columns), "num_prefix_tokens": special, "patch_size": patch}
    distance = attention_distance(attention, "pixels", **options)
    return {
        "mean_attention_distance": distance,
        "renormalised": attention_distance(attention, "pixels", renormalize=True, **options),
        "distance_matrix": token_distances((rows, columns), (patch, patch)),
        "sorted_image_mean": sorted_by_layer(distance.transpose(0, 1)),
        "rollout_image0": rollout(attention)[:, 0],
    }


def similarity(first, second, batches, weighting="batches") -> torch.Tensor:
    measured = MinibatchCKA(weighting)
    sides = [[layer.split(batches) for layer in side] for side in (first, second)]
    for number in range(len(batches)):
        measured.update(*([parts[number] for parts in side] for side in sides))
    return measured.compute()


def compute_cka(case: Case) -> dict[str, torch.Tensor]:
    batches = case.config["batches"]
    inputs = {name: values.double() for name, values in tensors(case).items()}
    first, second = numbered(inputs, "a"), numbered(inputs, "b")
    second.append(first[0] + 0.7 * inputs["mix"])
    case.config.check(layers_a=len(first), layers_b=len(second))
    return {
        "cka": similarity(first, second, batches),
        "cka_one_batch": similarity(first, second, [len(first[0])]),
        "cka_biased_one_batch": torch.tensor([[cka(a, b) for b in second] for a in first], dtype=torch.float64),
        "self": similarity(first, first, batches),
        "hsic1": torch.stack([torch.stack([hsic(gram(a), gram(b)) for b in second]) for a in first]),
        "official_minibatch_cka": similarity(first, second, batches, "pairs"),
        "official_minibatch_cka_self": similarity(first, first, batches, "pairs"),
    }


def compute_probes(case: Case) -> dict[str, torch.Tensor]:
    config = case.config
    inputs = {name: v.double() if v.is_floating_point() else v for name, v in tensors(case).items()}
    options = {"num_classes": config["num_classes"], "l2": config["l2"], "bias": config["bias_constant"]}
    labels, truth = inputs["train_labels"], inputs["test_labels"]
    tokens = inputs["centers"].shape[1]
    scale = torch.linspace(0.2, 1.5, tokens, dtype=torch.float64)[:, None]
    train = scale * inputs["centers"][labels] + inputs["train"]
    test = scale * inputs["centers"][truth] + inputs["test"]
    scores = torch.stack([ridge_probe(train[:, t], labels, test[:, t], **options) for t in range(tokens)])
    spatial = ridge_probe(train[:, 1:].mean(dim=1), labels, test[:, 1:].mean(dim=1), **options)
    return {
        "scores_per_token": scores,
        "accuracy_per_token": torch.tensor([accuracy(own, truth) for own in scores], dtype=torch.float64),
        "scores_spatial_mean": spatial,
        "accuracy_spatial_mean": torch.tensor(accuracy(spatial, truth), dtype=torch.float64),
    }


def compute_model(case: Case) -> dict[str, torch.Tensor]:
    config, inputs = case.config, {name: values.double() for name, values in tensors(case).items()}
    model, batches, size = encoder(case).double(), config["batches"], config["image_size"]
    pixels = interpolate(inputs["coarse"], (size, size), mode="bilinear", align_corners=False) + inputs["fine"]
    seen = record(model, pixels, ["blocks", "attention_branches", "mlp_branches"])
    rows, columns = seen.grid
    token = 1 + config["center_token"][0] * columns + config["center_token"][1]
    branches = [
        norm_ratio(addends).mean(dim=0)
        for pair in zip(seen.attention_branches, seen.mlp_branches, strict=True)
        for addends in pair
    ]
    ratios = torch.stack(branches)
    patches = pixel_patches(pixels, (rows, columns))
    classes = [block[:, 0] for block in seen.blocks]
    return {
        "skip_to_branch_norm": ratios,
        "skip_to_branch_norm_cls": ratios[:, 0],
        "skip_to_branch_norm_spatial": ratios[:, 1:].mean(dim=1),
        "layer_cka": similarity(seen.blocks, seen.blocks, batches),
        "layer_cka_cls": similarity(classes, classes, batches),
        "localisation": localisation(seen.blocks[-1], patches, batches),
        "localisation_first": localisation(seen.blocks[0], patches, batches),
        "receptive_field": receptive_field(model, pixels, token=token),
        "receptive_field_channel_sum": receptive_field(model, pixels, token=token, channel_sum=True),
    }


COMPUTE = {"attention_distance": compute_distance, "cka": compute_cka, "probes": compute_probes}
