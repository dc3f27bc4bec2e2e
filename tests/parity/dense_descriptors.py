"""Golden cases of ShirAmir/dino-vit-features: descriptors, saliency, correspondences, co-segmentation, components."""

import cv2
import numpy as np
import torch
from PIL import Image

from hf_vits.analysis.cosegmentation import (
    Description,
    assign_parts,
    cluster,
    common_parts,
    describe,
    find_inliers,
    normalised,
    on_patches,
    part_costs,
    refine,
    squared_distances,
    vote,
)
from hf_vits.analysis.crf import CRF
from hf_vits.analysis.descriptors import (
    best_buddies,
    centres,
    components_to_rgb,
    cosine_similarity,
    descriptor_components,
    descriptors,
    extract_facet,
    geometry,
    interleave,
    log_bins,
    prepare,
    saliency,
    salient_buddies,
    strided,
    well_spread,
)
from hf_vits.conversion import convert

from .golden import Case
from .self_supervision import tensors

DINO_HEADS = [0, 2, 4, 5]  # fixed in the original
NORMALISATION = {True: {}, False: {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}}


def compute(case: Case) -> dict[str, torch.Tensor]:
    name = case.path.stem
    return next((run for start, run in COMPUTE.items() if name.startswith(start)), compute_descriptors)(case)


def encoder(case: Case):
    """The DINO backbone of a case."""
    config = case.config
    size = "base" if config["embed_dim"] == 768 else "small"
    weights = {key: value for key, value in case.checkpoint().items() if not key.startswith("head.")}
    model = convert("dino", f"vit_{size}_patch{config['patch']}", weights, num_attention_heads=config["heads"]).eval()
    built = model.config
    config.check(
        patch=built.patch_size,
        embed_dim=built.hidden_size,
        depth=built.num_hidden_layers,
        position_grid=built.image_size // built.patch_size,
    )
    assert str(config["patch"]) in config["model_type"]
    return model


def normalisation(case: Case) -> dict:
    return NORMALISATION["dino" in case.config["model_type"]]


def images(case: Case) -> list[Image.Image]:
    return [Image.fromarray(value) for name, value in sorted(case.inputs().items()) if name.startswith("image")]


def with_means(computed: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    means = {}
    for name, value in computed.items():
        if value.ndim >= 3:
            means |= {f"{name}.token_mean": value.mean(dim=-1), f"{name}.channel_mean": value.mean(dim=-2)}
    return computed | means


@torch.no_grad()
def compute_descriptors(case: Case) -> dict[str, torch.Tensor]:
    config, model, pixels = case.config, encoder(case), tensors(case)["pixel_values"]
    stride, last = config["stride"], config["layers"][-1]
    computed = {}
    for output in case.meta["outputs"]:
        facet, _, layer = output.removesuffix("_binned").partition("_layer")
        if facet in ("key", "query", "value", "token") and layer.isdigit():
            found = descriptors(model, pixels, int(layer), facet, stride, bins=output.endswith("_binned"))
            computed[output] = found.values[:, None]
    whole = descriptors(model, pixels, last, "key", stride, class_token=True)
    computed["key_with_cls_token_mean"] = whole.values[:, None].mean(dim=-1)
    computed["num_patches"] = torch.tensor(whole.grid)
    for output in case.meta["outputs"]:
        if output.startswith(("cls_attention_layer", "attn_layer")):
            attention = extract_facet(model, pixels, int(output.partition("_layer")[2]), "attention", stride)[0]
            computed[output] = attention[:, :, 0] if output.startswith("cls") else attention
    embeddings = model.embeddings
    with strided(model, pixels.shape[-2:], stride) as (grid, _):
        computed["position_embedding"] = embeddings.position_embedding(grid)
    heads = config["saliency_heads"]
    if heads is not None:
        computed["saliency"] = saliency(model, pixels, 11, heads, stride)[0]
    return with_means(computed)


def compute_log_bins(case: Case) -> dict[str, torch.Tensor]:
    features, config = tensors(case)["features"], case.config
    config.check(heads=features.shape[1])
    binned = log_bins(interleave(features), tuple(config["grid"]), config["hierarchy"])
    return {"binned": binned[:, None]}


def compute_correspondences(case: Case) -> dict[str, torch.Tensor]:
    config, model, golden = case.config, encoder(case), case.outputs()
    how = (config["layer"], config["facet"], config["stride"], config["bin"])
    pixels = [prepare(image, config["load_size"], **normalisation(case))[0] for image in images(case)]
    (first, grid1), (second, grid2) = (descriptors(model, p, *how) for p in pixels)
    salient = [saliency(model, p, 11, DINO_HEADS, config["stride"])[0][0] for p in pixels]
    buddies = best_buddies(first[0], second[0])
    kept = salient_buddies(buddies, salient[0], salient[1], config["thresh"])
    mine = kept.nonzero().flatten()
    theirs = buddies.forward[mine]
    ranks = (salient[0][mine] + salient[1][theirs]) / 2
    pairs = torch.cat([first[0][mine], second[0][theirs]], dim=1).numpy()
    chosen, clusters = well_spread(pairs, ranks.numpy(), config["num_pairs"])
    places = geometry(model, config["stride"])
    points = [centres(tokens[chosen], grid[1], *places) for tokens, grid in ((mine, grid1), (theirs, grid2))]
    order = np.lexsort(points[0].T[::-1])
    labels = golden["kmeans_labels"]
    return {
        "saliency1": salient[0],
        "saliency2": salient[1],
        "nn_1": buddies.forward,
        "nn_2": buddies.backward,
        "sim_1": buddies.forward_similarity,
        "sim_2": buddies.backward_similarity,
        "best_buddies": kept.long(),
        "ranks": ranks,
        "kmeans_labels": torch.from_numpy(renumbered(clusters, labels)),
        "points1": torch.from_numpy(points[0][order]),
        "points2": torch.from_numpy(points[1][order]),
        "num_patches": torch.tensor([grid1, grid2]),
    }


def renumbered(clusters: np.ndarray, golden: np.ndarray) -> np.ndarray:
    """The same clusters under the golden case's numbers, where the two agree."""
    names = dict(zip(clusters.tolist(), golden.tolist(), strict=True))
    assert len(set(names.values())) == len(names), "two clusters have one golden name"
    return np.array([names[cluster] for cluster in clusters.tolist()])


def description(case: Case) -> Description:
    config = case.config
    return Description(
        size=config["load_size"],
        layer=config["layer"],
        facet=config["facet"],
        bins=config["bin"],
        stride=config["stride"],
        heads=DINO_HEADS,
        saliency_layer=11,
        low_resolution_saliency=config.get("low_res_saliency_maps", True),
        sample_interval=config["sample_interval"],
        **normalisation(case),
    )


def compute_cosegmentation(case: Case) -> dict[str, torch.Tensor]:
    """From the golden clusters on, since the original's k-means is its library's."""
    config, golden, model = case.config, case.outputs(), encoder(case)
    described = [describe(model, image, description(case)) for image in images(case)]
    inliers = list(range(len(described)))
    if config.get("remove_outliers"):
        inliers = find_inliers(
            np.stack([each.class_values for each in described if each.class_values is not None]),
            config["outliers_thresh"],
        )[1]
        described = [described[index] for index in inliers]
    elif "outliers_thresh" in config:
        config.unused("outliers_thresh")
    clusters = int(golden["clusters"].item())
    stored = [golden[f"labels{index}"] for index in range(len(described))]
    votes, salient = vote(
        stored, [each.saliency for each in described], clusters + 1, config["thresh"], config["votes_percentage"]
    )
    every = normalised(np.concatenate([each.values for each in described]))
    flat = np.concatenate(stored)
    centroids = np.stack([every[flat == label].mean(axis=0) for label in range(clusters)])
    computed = {
        "votes": torch.from_numpy(votes),
        "salient_labels": torch.from_numpy(salient),
        "inliers": torch.tensor(np.array(inliers)),
    }
    elbow = golden["sum_of_squared_distances"]
    stops = np.flatnonzero(elbow[1:] > config["elbow"] * elbow[:-1])
    assert clusters == (stops[0] + 2 if len(stops) else len(elbow)), "the elbow is elsewhere"
    assert squared_distances(every, centroids).min(axis=1).mean() <= elbow[-1] * 1.02
    coarse = [np.isin(labels, salient).reshape(each.grid) for each, labels in zip(described, stored, strict=True)]
    masks = refined(coarse, [each.image for each in described], golden)
    for index, each in enumerate(described):
        computed |= {
            f"saliency{index}": torch.from_numpy(each.saliency),
            f"num_patches{index}": torch.tensor(each.grid),
            f"coarse_mask{index}": torch.from_numpy(coarse[index].astype(np.int8)),
            f"mask{index}": torch.from_numpy(masks[index].astype(np.int8)),
        }
    return computed


def refined(coarse: list[np.ndarray], images: list[Image.Image], golden: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Masks after GrabCut, which draws random numbers: of the first passes over the images the golden one, if any.

    The case does not hold the generator's state. In the original's process the images had been segmented before.
    """
    cv2.setRNGSeed(0)
    passes = [[refine(mask, image) for mask, image in zip(coarse, images, strict=True)] for _ in range(8)]
    wrong = [sum((mask != golden[f"mask{i}"]).sum() for i, mask in enumerate(masks)) for masks in passes]
    return passes[int(np.argmin(wrong))]


def compute_parts(case: Case) -> dict[str, torch.Tensor]:
    """From the golden centroids on, since the original's k-means is its library's."""
    config, golden, model = case.config, case.outputs(), encoder(case)
    crf = CRF(**{name: config["crf"][name] for name in config["crf"]})
    described = [describe(model, image, description(case)) for image in images(case)]
    centroids, parts = golden["centroids"], golden["part_centroids"]
    labels = [squared_distances(normalised(each.values), centroids).argmin(axis=1) for each in described]
    salient = vote(
        labels, [each.saliency for each in described], len(centroids) + 1, config["thresh"], config["votes_percentage"]
    )[1]
    distances = np.concatenate([squared_distances(normalised(each.values), centroids) for each in described])
    ours = cluster([each.values for each in described], config["sample_interval"], config["elbow"])
    assert ours.mean_squared_distances[-1] <= 1.1 * distances.min(axis=1).mean(), "k-means found worse clusters"
    background = np.delete(centroids, salient, axis=0)

    def segment(parts: np.ndarray, background: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        sizes = [(each.image.height, each.image.width) for each in described]
        costs = [
            part_costs(each.values, parts, background, each.grid, size)
            for each, size in zip(described, sizes, strict=True)
        ]
        return [(cost, assign_parts(cost, each.image, crf)) for cost, each in zip(costs, described, strict=True)]

    found = segment(parts, background)
    if config.get("three_stages"):
        maps = [on_patches(part, each.grid) for (_, part), each in zip(found, described, strict=True)]
        common = common_parts(maps, len(described), len(parts))
        background = np.concatenate([background, np.delete(parts, common, axis=0)])
        name = next(name for name in golden if "common" in name and golden[name].ndim == 2)
        parts = golden[name]
        config.unused("elbow_second_stage")  # the second stage's centroids are stored
        found = segment(parts, background)
    elif "elbow_second_stage" in config:
        config.unused("elbow_second_stage")
    config.check(num_parts=len(parts), num_crop_augmentations=0)
    computed = {"votes_first_stage_labels": torch.from_numpy(salient)}
    for index, (each, (costs, part)) in enumerate(zip(described, found, strict=True)):
        computed |= {
            f"descriptors{index}": torch.from_numpy(each.values),
            f"unary{index}": torch.from_numpy(costs),
            f"parts{index}": torch.from_numpy(part),
        }
    return computed


def compute_components(case: Case) -> dict[str, torch.Tensor]:
    config, golden, model = case.config, case.outputs(), encoder(case)
    how = (config["layer"], config["facet"], config["stride"], config.get("bin", False))
    pixels = [prepare(image, config["load_size"], **normalisation(case))[0] for image in images(case)]
    described = [descriptors(model, each, *how) for each in pixels]
    computed = {}
    for name in ("together", "alone"):
        found = descriptor_components(described, config["n_components"], name == "together")
        for index, components in enumerate(found):
            if (theirs := golden.get(f"{name}{index}")) is not None:
                signs = np.sign((components * theirs).sum(axis=(0, 1)))
                computed[f"{name}{index}"] = torch.from_numpy(components * signs)
                if name == "together":
                    computed[f"rgb{index}"] = torch.from_numpy(components_to_rgb(components * signs))
    return computed


def compute_outliers(case: Case) -> dict[str, torch.Tensor]:
    inputs = tensors(case)
    noise = inputs["noise"]
    values = inputs["base"] + noise * torch.linspace(0.1, 1.6, len(noise))[:, None]
    similarity, inliers = find_inliers(values.numpy(), case.config["outliers_thresh"])
    return {
        "similarity_to_mean": torch.from_numpy(similarity),
        "inliers": torch.from_numpy(inliers),
        "pairwise": cosine_similarity(values[None], values[None])[:, None],
    }


COMPUTE = {
    "correspondences": compute_correspondences,
    "cosegmentation": compute_cosegmentation,
    "log_bin": compute_log_bins,
    "outliers": compute_outliers,
    "part_cosegmentation": compute_parts,
    "pca": compute_components,
}
