"""Golden cases of mwalmer-umd/vit_analysis: attention metrics, CKA, object features, retrieval, keypoints, videos."""

from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import interpolate, normalize, one_hot

from hf_vits.analysis import attention as heads
from hf_vits.analysis import objects
from hf_vits.analysis import representation as measures
from hf_vits.conversion import convert
from hf_vits.evaluation import davis, keypoints, neighbours, retrieval
from hf_vits.processing.image import VitsImageProcessor

from .golden import Case
from .record import eager_attentions
from .self_supervision import tensors


def compute(case: Case) -> dict[str, torch.Tensor]:
    name = case.path.stem
    return next(run for start, run in COMPUTE.items() if name.startswith(start) or name.endswith(start))(case)


def doubled(given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.double() if value.is_floating_point() else value for name, value in given.items()}


@dataclass
class States:
    """What a ViT computed in every layer: the addends (skip, branch) of its residual sums, norms, and its output."""

    attention: list = field(default_factory=list)
    mlp: list = field(default_factory=list)
    norms: list = field(default_factory=list)
    blocks: list = field(default_factory=list)


def states_of(model, pixel_values: torch.Tensor) -> States:
    """Run a plain ViT and keep what its layers computed."""
    states, handles = States(), []
    kept: dict[str, torch.Tensor] = {}
    for layer in model.layers:

        def before(module, arguments, output):
            kept["skip"] = arguments[0]
            states.norms.append(output)

        def after_attention(module, arguments, output):
            kept["branch"] = output[0]
            states.attention.append((kept["skip"], output[0]))

        def after_mlp(module, arguments, output):
            states.mlp.append((kept["skip"], output))

        def after(module, arguments, output):
            states.blocks.append(output)

        handles += [
            layer.attention_norm.register_forward_hook(before),
            layer.attention.register_forward_hook(after_attention),
            layer.mlp_norm.register_forward_hook(before),
            layer.mlp.register_forward_hook(after_mlp),
            layer.register_forward_hook(after),
        ]
    try:
        model(pixel_values)
    finally:
        for handle in handles:
            handle.remove()
    return states


def vit(case: Case):
    """The encoder of a case's checkpoint, whose keys are timm's, without head and decoder."""
    config = case.config
    kept = {
        key: value
        for key, value in case.checkpoint().items()
        if not key.startswith(("decoder_", "head.", "fc_norm.")) and key not in ("mask_token", "decoder_pos_embed")
    }
    patch = config["patch"]
    size = config["image_size"] if "image_size" in config else config["window"]
    model = convert(
        "deit",
        "deit_small_patch16_224",
        kept,
        num_attention_heads=config["heads"],
        layer_norm_eps=config.get("layer_norm_eps", 1e-6),
        image_size=size,
    )
    built = model.config
    config.check(
        embed_dim=built.hidden_size,
        depth=built.num_hidden_layers,
        qkv_bias=built.qkv_bias,
        mlp_ratio=built.intermediate_size / built.hidden_size,
    )
    assert built.patch_size == patch
    return model.model if hasattr(model, "model") else model


def attention_metrics(attention: torch.Tensor, labels: torch.Tensor | None = None, classes: int = 0) -> dict:
    """All metrics of attention (images, layers, heads, tokens, tokens), in the original's names."""
    aligned = heads.aligned_attention(attention).mean(dim=0)
    offsets = heads.attention_offsets(aligned)
    found = {
        "avg-att-dist": heads.attention_distance(attention),
        "spatial-cls-att": heads.attention_to_token(attention, token=1),
        "stdev-over-token-pos": heads.deviation_over_queries(attention),
        "stdev-over-head": heads.deviation_over_heads(attention),
        "avg-aligned-att-on-token": aligned,
        "avg-att-offset": offsets.distance,
        "avg-x-offset": offsets.x,
        "avg-y-offset": offsets.y,
    }
    modes = {"": "all", "-spc": "patches", "-spcpure": "patches_only", "-cls": "class"}
    for name, queries in modes.items():
        found[f"avg{name}-att-on-token"] = heads.attention_on_tokens(attention, queries).mean(dim=0)
    if labels is not None:
        on_tokens = heads.attention_on_tokens(attention)
        by_class = torch.stack([on_tokens[labels == number].mean(dim=0) for number in range(classes)])
        found["avg-att-on-token-per-class"] = by_class
        found["stdev-over-class"] = heads.deviation_over_classes(by_class)[None]
    return found


def compute_attention(case: Case) -> dict[str, torch.Tensor]:
    config, given = case.config, tensors(case)
    is_drawn = "attention_logits" in given
    attention = given["attention_logits"].softmax(dim=-1) if is_drawn else given["attention"]
    # The original divides the sum of aligned maps by the number of its calls, not of images.
    batches = config["batches"]
    assert sum(batches) == len(attention)
    names = config.get("heads", attention.shape[2])
    assert (names if isinstance(names, int) else len(names)) == attention.shape[2]
    config.check(grid=round((attention.shape[-1] - 1) ** 0.5), layers=attention.shape[1])
    labels = given["labels"].long() if "labels" in given else None
    found = attention_metrics(attention, labels, config.get("num_class", 0))
    found["avg-aligned-att-on-token"] = found["avg-aligned-att-on-token"] * (len(attention) / len(batches))
    return found


def compute_saliency(case: Case) -> dict[str, torch.Tensor]:
    config, given = case.config, tensors(case)
    attention, region = given["attention_logits"].softmax(dim=-1), given["object_mask"]
    config.check(grid=region.shape[0])
    modes = {"cls": "class", "spc": "patches", "center": "centre"}
    # In the original's order on one tensor, the rows of the class token and the centre are normalised in place.
    later = attention.clone()
    for row in (0, 1 + heads.centre_token(tuple(region.shape))):
        later[..., row, 1:] /= later[..., row, 1:].sum(dim=-1, keepdim=True)
    computed = {}
    for name, query in modes.items():
        for suffix, merged in (("", False), ("-merge", True)):
            masks = heads.saliency_masks(attention, query, merged, config["mass"])
            computed[f"mask_{name}{suffix}"] = masks.float()
            computed[f"iou_{name}{suffix}"] = heads.mask_overlap(masks, region)
            in_order = heads.saliency_masks(later if name != "spc" else attention, query, merged, config["mass"])
            computed[f"pipeline_iou_{name}{suffix}"] = heads.mask_overlap(in_order, region)
    return computed


def compute_cka(case: Case) -> dict[str, torch.Tensor]:
    config, given = case.config, tensors(case)
    first = [given[name] for name in sorted(given) if name.startswith("a")]
    second = [given[name] for name in sorted(given) if name.startswith("b")]
    second.append(first[0] + 0.5 * given["mix"])
    config.check(layers_a=len(first), layers_b=len(second))
    sizes = list(config["batches"])
    parts = {"all": slice(None), "cls": slice(0, 1), "spat": slice(1, None)}
    computed = {
        f"cka_{name}": scaled_cka([x[:, part] for x in first], [x[:, part] for x in second], sizes)
        for name, part in parts.items()
    }
    computed["cka_all_one_batch"] = scaled_cka(first, second, [sum(sizes)])
    pairs = ((first[0], first[0]), (first[0], second[-1]), (second[-1], second[-1]))
    hsic = [measures.unbiased_hsic(*(measures.gram(side.double()) for side in pair)) for pair in pairs]
    return computed | {"hsic_unnormalised": torch.stack(hsic)}


def scaled_cka(first, second, sizes) -> torch.Tensor:
    measure = measures.MinibatchCKA("scaled")
    parts = [[feature.double().split(sizes) for feature in side] for side in (first, second)]
    for index in range(len(sizes)):
        measure.add(*([feature[index] for feature in side] for side in parts))
    return measure.result()


def compute_clusters(case: Case) -> dict[str, torch.Tensor]:
    given, count = case.inputs(), case.config["k"]
    labels = given["labels"].astype(int)
    scores = measures.cluster_scores(labels, given["clusters"].astype(int))
    features = given["centers"][(labels - 1) // 2] + given["noise"]
    fitted = measures.clusterability(features, labels, count)
    computed = {name: torch.tensor(value) for name, value in scores._asdict().items()}
    return computed | {"kmeans_nmi_ari_purity": torch.tensor([fitted.nmi, fitted.ari, fitted.purity])}


def compute_davis(case: Case) -> dict[str, torch.Tensor]:
    config, given = case.config, tensors(case)
    side, size = config["grid"], tuple(config["original_size_hw"])
    grid = (side, side) if isinstance(side, int) else tuple(side)
    features = given["features"][:, 1:].mT.unflatten(2, grid)
    first = one_hot(given["first_segmentation"].long()).permute(2, 0, 1).float()
    radius = config["size_mask_neighborhood"]
    options = (config["n_last_frames"], radius, config["topk"], config["temperature"])
    scores = davis.propagate_segmentation(features, first, *options)
    labels, stretched = davis.segment(scores, config["patch"])
    resized = [
        np.asarray(Image.fromarray(frame.numpy().astype(np.uint8)).resize(size[::-1], Image.Resampling.NEAREST))
        for frame in labels
    ]
    fine = interpolate(scores, scale_factor=config["patch"], mode="bilinear", align_corners=False)
    assert stretched.shape == fine.shape
    last = davis.segment(scores[-1:], 1)[1][0]
    return {
        "soft_segmentation": scores,
        "labels": torch.from_numpy(np.stack(resized).astype(np.float32)),
        "normalised_last": last,
        "neighbourhood": davis.square_neighbourhood(grid, radius).float(),
        "first_one_hot": first[None],
    }


def compute_tiles(case: Case) -> dict[str, torch.Tensor]:
    config, given = case.config, case.inputs()
    model = vit(case)
    image = Image.fromarray(given["image"].astype(np.uint8))
    config.check(image_size_wh=list(image.size))
    tiles = objects.cut(image, config["window"], config["tile_factor"], config["patch"])
    processor = VitsImageProcessor(do_resize=False, do_center_crop=False)

    def encode(windows: list[np.ndarray]) -> torch.Tensor:
        pixel_values = processor([Image.fromarray(window) for window in windows], return_tensors="pt").pixel_values
        blocks = states_of(model, pixel_values).blocks
        side = config["window"] // config["patch"]
        return torch.stack([blocks[number][:, 1:].unflatten(1, (side, side)) for number in config["blocks"]])

    return {
        "features": objects.tiled_features(encode, tiles, config["patch"]),
        "resized_hw": torch.tensor(tiles.image.shape[:2]),
        "window_origins": torch.tensor(tiles.origins),
    }


def compute_model(case: Case) -> dict[str, torch.Tensor]:
    config, given = case.config, tensors(case)
    size = config["image_size"]
    model = vit(case)
    images = interpolate(given["coarse"], size=(size, size), mode="bilinear", align_corners=False) + given["fine"]
    attention = torch.stack(eager_attentions(model, pixel_values=images), dim=1)
    computed = attention_metrics(attention)
    states, sizes, chosen = states_of(model, images), list(config["batches"]), list(config["blocks"])
    features = torch.stack(states.blocks, dim=1)
    computed["cls_features"], computed["spatial_mean_features"] = features[:, :, 0], features[:, :, 1:].mean(dim=2)
    norms = [states.norms[2 * block + part] for block in chosen for part in (0, 1)]
    computed["cka_norm_layers"] = scaled_cka(norms, norms, sizes)
    blocks = [states.blocks[block] for block in chosen]
    for name, part in {"all": slice(None), "cls": slice(0, 1), "spat": slice(1, None)}.items():
        last = [states.blocks[-1][:, part]]
        computed[f"cka_blocks_to_last_{name}"] = scaled_cka([x[:, part] for x in blocks], last, sizes)
    for kind, pairs in {"attn": states.attention, "mlp": states.mlp}.items():
        rows = {"all": [], "cls": [], "spat": []}
        for skip, branch in pairs:
            ratios = measures.norm_ratios(skip, branch)
            for name, ratio in zip(rows, ratios.values(), strict=True):
                rows[name].append(torch.stack([part.mean() for part in ratio.split(sizes)]))
        computed |= {f"{kind}_skip_to_branch_norm_{name}": torch.stack(row) for name, row in rows.items()}
        skips, branches = ([pairs[block][side] for block in chosen] for side in (0, 1))
        computed[f"cka_{kind}_residual"] = scaled_cka(skips, branches, sizes)
    return computed


def compute_keypoints(case: Case) -> dict[str, torch.Tensor]:
    config, given = case.config, tensors(case)
    side, patch = config["image_size"], config["patch"]
    grid = (side // patch, side // patch)
    places = given["keypoints"]
    found, truth, sizes, similarity = [], [], [], []
    for pair, (source, change) in enumerate(zip(given["source"], given["change"], strict=True)):
        maps = [tokens[1:].T.unflatten(1, grid) for tokens in (source, source + 0.3 * change)]
        first, second = places[2 * pair], places[2 * pair + 1]
        visible = first[:, 2] * second[:, 2] > 0
        transfer = keypoints.transfer_keypoints(*maps, first[visible, :2], side)
        found.append(transfer.pixels)
        similarity.append(transfer.similarity)
        truth.append(second[visible, :2])
        sizes.append(float(given["thresholds"][2 * pair + 1]))
    scores = keypoints.correct_transfers(found, truth, sizes, side, config["alphas"])
    computed = {
        "pck": torch.tensor([scores[alpha] for alpha in config["alphas"]]),
        "nearest_pixel": torch.cat(found).float(),
        "best_similarity": torch.cat(similarity),
    }
    for name, size in {"wide": (200, 120), "tall": (120, 200), "square": (150, 150)}.items():
        padded, (left, top), scale = keypoints.padded_keypoints(given["raw_keypoints"], size, side)
        computed |= {f"padded_{name}": padded, f"offset_scale_{name}": torch.tensor([left, top, scale])}
    return computed


def compute_neighbours(case: Case) -> dict[str, torch.Tensor]:
    config, given = case.config, tensors(case)
    labels = {kind: given[f"{kind}_labels"].long() for kind in ("train", "test")}
    features = {kind: normalize(given["centers"][labels[kind]] + given[kind], dim=1) for kind in ("train", "test")}
    assert config["num_classes"] == len(given["centers"])
    found = neighbours.accuracies(
        features["train"], labels["train"], features["test"], labels["test"], list(config["k"]), config["temperature"]
    )
    return {f"top1_top5_k{k}": 100 * torch.tensor([scores["top1"], scores["top5"]]) for k, scores in found.items()}


def compute_pooling(case: Case) -> dict[str, torch.Tensor]:
    given = tensors(case)
    masks = given["masks"].abs()
    case.config.check(grid=masks.shape[-1])
    masks = masks / masks.sum(dim=(1, 2), keepdim=True)
    return {"object_features": objects.pool_objects(given["features"], masks)}


def compute_masks(case: Case) -> dict[str, torch.Tensor]:
    config, given = case.config, case.inputs()
    *kept, skipped_id = config["category_ids"]
    computed = {}
    for name, grid in (("whole", config["grid_whole"]), ("center_crop", config["grid_center_crop"])):
        masks, labels, skips = [], [], 1  # the last annotation's polygon has too few points
        for mask, label in zip(given["object_masks"] > 0, kept, strict=True):
            weights = objects.token_mask(objects.centre_square(mask) if name == "center_crop" else mask, tuple(grid))
            if weights is None:
                skips += 1
                continue
            masks.append(weights)
            labels.append(label)
        assert skipped_id not in labels
        computed |= {
            f"{name}_masks": torch.from_numpy(np.stack(masks)),
            f"{name}_labels": torch.tensor(labels),
            f"{name}_skips_loads": torch.tensor([skips, len(masks)]),
            f"{name}_union": torch.from_numpy(objects.union(masks)).float(),
        }
    return computed


def compute_retrieval(case: Case) -> dict[str, torch.Tensor]:
    given = tensors(case)
    similarity = normalize(given["database"], dim=1) @ normalize(given["queries"], dim=1).T
    ranks = torch.argsort(-similarity, dim=0).numpy()
    relevance = given["relevance"].numpy()
    computed = {"ranks": torch.from_numpy(ranks)}
    protocols = {"medium": ((1, 2), (3,)), "hard": ((2,), (1, 3))}
    for name, (positive, ignored) in protocols.items():
        found = retrieval.retrieval_map(
            ranks, np.isin(relevance, positive), np.isin(relevance, ignored), case.config["kappas"]
        )
        precision = np.nan_to_num(np.asarray(found["average_precision"]), nan=-1.0)
        computed |= {
            f"{name}_map": torch.tensor(found["map"]),
            f"{name}_ap": torch.from_numpy(precision),
            f"{name}_precision_at_k": torch.from_numpy(np.asarray(found["precision_at_k"])),
        }
    return computed


COMPUTE = {
    "attention_saliency": compute_saliency,
    "attention_metrics": compute_attention,
    "cka_features": compute_cka,
    "clustering": compute_clusters,
    "davis": compute_davis,
    "dense_features": compute_tiles,
    "keypoint": compute_keypoints,
    "knn": compute_neighbours,
    "object_feature_pooling": compute_pooling,
    "object_token_masks": compute_masks,
    "retrieval": compute_retrieval,
    "_analysis": compute_model,
}
