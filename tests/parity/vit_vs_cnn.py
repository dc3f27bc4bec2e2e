"""Golden cases of "Do Vision Transformers See Like Convolutional Neural Networks?": distances, CKA, probes, a ViT."""

import torch
from torch.nn.functional import interpolate

from hf_vits.analysis import attention as heads
from hf_vits.analysis import representation as measures

from .golden import Case
from .self_supervision import tensors
from .vit_analysis import doubled, states_of, vit


def compute(case: Case) -> dict[str, torch.Tensor]:
    return COMPUTE[case.path.stem if case.path.stem in COMPUTE else kind(case)](case)


def kind(case: Case) -> str:
    return next(name for name in COMPUTE if case.path.stem.startswith(name.rsplit("_", 1)[0]))


def compute_distance(case: Case) -> dict[str, torch.Tensor]:
    config = case.config
    attention = tensors(case)["attention_logits"].double().softmax(dim=-1)
    side, prefix = config["grid"], config["special_tokens"]
    grid = (side, side) if isinstance(side, int) else tuple(side)
    options = {"num_prefix_tokens": prefix, "grid": grid, "convention": "pixel", "patch_size": config["patch"]}
    distance = heads.attention_distance(attention, **options)
    return {
        "mean_attention_distance": distance,
        "renormalised": heads.attention_distance(attention, renormalize=True, **options),
        "distance_matrix": heads.patch_distances(grid, "pixel", config["patch"], torch.float64),
        "sorted_image_mean": distance.mean(dim=1).sort(dim=-1).values,
        "rollout_image0": heads.rollout(attention[:, 0]),
    }


def sides(case: Case) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The two lists of representations of a case of CKA, in float64."""
    given = doubled(tensors(case))
    first = [given[f"a{index}"] for index in range(sum(name.startswith("a") for name in given))]
    factor = 0.7 if case.system == "vit_vs_cnn" else 0.5
    second = [given[f"b{index}"] for index in range(sum(name.startswith("b") for name in given))]
    return first, [*second, first[0] + factor * given["mix"]]


def minibatch(first, second, sizes, weighting="equal") -> torch.Tensor:
    measure = measures.MinibatchCKA(weighting)
    parts = [[feature.split(list(sizes)) for feature in side] for side in (first, second)]
    for index in range(len(sizes)):
        measure.add(*([feature[index] for feature in side] for side in parts))
    return measure.result()


def compute_cka(case: Case) -> dict[str, torch.Tensor]:
    sizes = case.config["batches"]
    first, second = sides(case)
    biased = torch.stack([torch.stack([measures.cka(a, b) for b in second]) for a in first])
    whole = [sum(sizes)]
    hsic = measures.products(*(torch.stack([measures.gram(x) for x in side]) for side in (first, second)))
    return {
        "cka": minibatch(first, second, sizes),
        "cka_one_batch": minibatch(first, second, whole),
        "cka_biased_one_batch": biased,
        "self": minibatch(first, first, sizes),
        "hsic1": hsic,
        "official_minibatch_cka": minibatch(first, second, sizes, "pairs"),
        "official_minibatch_cka_self": minibatch(first, first, sizes, "pairs"),
    }


def compute_vit(case: Case) -> dict[str, torch.Tensor]:
    config, given = case.config, doubled(tensors(case))
    size, patch = config["image_size"], config["patch"]
    model = vit(case).double()
    coarse = interpolate(given["coarse"], size=(size, size), mode="bilinear", align_corners=False)
    images = coarse + given["fine"]
    states = states_of(model, images)
    ratios = torch.stack(
        [
            measures.token_norm_ratios(skip, branch).mean(dim=0)
            for layer in zip(states.attention, states.mlp, strict=True)
            for skip, branch in layer
        ]
    )
    sizes = list(config["batches"])
    patches = images.unfold(2, patch, patch).unfold(3, patch, patch).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
    pixels = torch.stack(patches.split(sizes)) if len(set(sizes)) == 1 else patches.split(sizes)

    def localised(layer: int) -> torch.Tensor:
        parts = states.blocks[layer].split(sizes)
        return measures.localisation(torch.stack(parts) if len(set(sizes)) == 1 else parts, pixels)

    row, column = config["center_token"]
    centre = 1 + row * (size // patch) + column
    fields, sums = [], []
    for layer in range(len(states.blocks)):

        def forward(inputs: torch.Tensor, layer: int = layer) -> torch.Tensor:
            return states_of(model, inputs).blocks[layer][:, centre]

        fields.append(measures.receptive_field(forward, images))
        sums.append(measures.receptive_field(forward, images, of_sum=True))
    classes = [block[:, 0] for block in states.blocks]
    return {
        "skip_to_branch_norm": ratios,
        "skip_to_branch_norm_cls": ratios[:, 0],
        "skip_to_branch_norm_spatial": ratios[:, 1:].mean(dim=1),
        "layer_cka": minibatch(states.blocks, states.blocks, sizes),
        "layer_cka_cls": minibatch(classes, classes, sizes),
        "localisation": localised(-1),
        "localisation_first": localised(0),
        "receptive_field": torch.stack(fields),
        "receptive_field_channel_sum": torch.stack(sums),
    }


def compute_probes(case: Case) -> dict[str, torch.Tensor]:
    config, given = case.config, doubled(tensors(case))
    tokens = given["train"].shape[1]
    scale = torch.linspace(0.2, 1.5, tokens, dtype=torch.float64)[:, None]
    labels = {kind: given[f"{kind}_labels"].long() for kind in ("train", "test")}
    features = {
        kind: (scale * given["centers"][labels[kind]] + given[kind]).transpose(0, 1) for kind in ("train", "test")
    }

    def probe(train: torch.Tensor) -> measures.RidgeProbe:
        built = measures.RidgeProbe(config["l2"], config["bias_constant"])
        return built.fit(train, labels["train"], config["num_classes"])

    tokenwise = probe(features["train"])
    means = {kind: feature[1:].mean(dim=0) for kind, feature in features.items()}
    pooled = probe(means["train"])
    return {
        "scores_per_token": tokenwise.scores(features["test"]),
        "accuracy_per_token": tokenwise.accuracy(features["test"], labels["test"]),
        "scores_spatial_mean": pooled.scores(means["test"]),
        "accuracy_spatial_mean": pooled.accuracy(means["test"], labels["test"]),
    }


COMPUTE = {
    "mean_attention_distance": compute_distance,
    "minibatch_cka": compute_cka,
    "small_vit_analysis": compute_vit,
    "token_probes": compute_probes,
}
