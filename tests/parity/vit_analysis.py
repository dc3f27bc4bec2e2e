"""Golden cases of mwalmer-umd/vit_analysis: metrics of attention and features, and whole models under them."""

from functools import partial

import numpy as np
import torch
from PIL import Image
from timm.layers import QuickGELU
from timm.models.beit import Beit
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import nn
from torch.nn.functional import interpolate, normalize, one_hot

from hf_vits.analysis import attention as attending
from hf_vits.analysis.branches import norm_ratio
from hf_vits.analysis.objects import object_features, token_masks, union_mask
from hf_vits.analysis.propagation import label_maps, neighbourhood, normalize_masks, propagate_video
from hf_vits.analysis.representation import MinibatchCKA, Tokens, cluster_scores, gram, hsic, select_tokens
from hf_vits.analysis.taps import record
from hf_vits.analysis.tiles import tile_origins, tiled_features, tiled_size
from hf_vits.conversion import convert
from hf_vits.evaluation.keypoints import pad_keypoints, transfer_keypoints, transferred_correctly
from hf_vits.evaluation.neighbours import top_accuracy, vote
from hf_vits.evaluation.retrieval import rank, retrieve
from hf_vits.metrics.clustering import adjusted_rand_index, normalized_mutual_information, purity

from .golden import Case
from .self_supervision import tensors

TOKENS: dict[str, Tokens] = {"all": "all", "cls": "class", "spat": "patches"}
QUERIES = {"": "all", "spc-": "patches", "spcpure-": "patches_renormalized", "cls-": "class"}
SALIENCY = {"cls": "class", "spc": "patches", "center": "center"}
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NOT_ANALYSED = ("decoder_", "mask_token", "head.", "fc_norm.", "pre_logits.")
NORMS = ("norm.", "fc_norm.")  # after the last block
FIRST_PATCH = 1  # which the original reads as the class token


def compute(case: Case) -> dict[str, torch.Tensor]:
    name = case.path.stem
    return next((run for start, run in COMPUTE.items() if name.startswith(start)), compute_model)(case)


def attentions_of(case: Case) -> torch.Tensor:
    inputs = tensors(case)
    return inputs["attention"] if "attention" in inputs else inputs["attention_logits"].softmax(dim=-1)


def metrics(attention: torch.Tensor, batches: int) -> dict[str, torch.Tensor]:
    """Every metric of attentions (images, layers, heads, tokens, tokens), fed in so many batches."""
    aligned = attending.aligned_attention(attention).sum(dim=0) / batches
    offset = attending.attention_offset(aligned)
    return {
        "avg-att-dist": attending.attention_distance(attention),
        "spatial-cls-att": attending.attention_to_token(attention, FIRST_PATCH),
        "stdev-over-token-pos": attending.position_deviation(attention),
        "stdev-over-head": attending.head_deviation(attention),
        **{
            f"avg-{name}att-on-token": attending.attention_on_tokens(attention, queries).mean(dim=0)
            for name, queries in QUERIES.items()
        },
        "avg-aligned-att-on-token": aligned,
        **dict(zip(("avg-att-offset", "avg-x-offset", "avg-y-offset"), offset, strict=True)),
    }


def compute_metrics(case: Case) -> dict[str, torch.Tensor]:
    config, attention = case.config, attentions_of(case)
    batches = config["batches"]
    config.check(grid=round((attention.shape[-1] - 1) ** 0.5), layers=attention.shape[1])
    if "heads" in config:
        heads = config["heads"]
        assert (heads if isinstance(heads, int) else len(heads)) == attention.shape[2]
    assert sum(batches) == len(attention), f"batches {batches} of {len(attention)} images"
    computed = metrics(attention, len(batches))
    if "num_class" in config:
        labels = tensors(case)["labels"]
        means = attending.class_means(attending.attention_on_tokens(attention), labels)
        assert len(means) == config["num_class"], "the original needs an image of each class"
        computed |= {
            "avg-att-on-token-per-class": means,
            "stdev-over-class": attending.class_deviation(means)[None],
        }
    return computed


def compute_saliency(case: Case) -> dict[str, torch.Tensor]:
    config, attention = case.config, attentions_of(case)
    side, mass = config["grid"], config["mass"]
    region = (tensors(case)["object_mask"] > 0).flatten()
    computed = {}
    for name, queries in SALIENCY.items():
        for merged in (False, True):
            maps = attending.saliency(attention, queries, merged)
            # The original normalises the maps of these modes in place, one after another.
            after = attending.saliency(attention, queries, merged, normalize_heads=name != "spc")
            key = f"{name}-merge" if merged else name
            mask = attending.attended_region(maps, mass)
            computed |= {
                f"mask_{key}": mask.to(torch.int8).unflatten(-1, (side, side)),
                f"iou_{key}": attending.region_overlap(maps, region, mass),
                f"pipeline_iou_{key}": attending.region_overlap(after, region, mass),
            }
    return computed


def similarity(first: list[torch.Tensor], second: list[torch.Tensor], tokens: Tokens, batches: list[int]):
    """The original's CKA of features (images, tokens, channels) of each layer."""
    measured = MinibatchCKA("range")
    sides = [[select_tokens(features, tokens).split(batches) for features in side] for side in (first, second)]
    for number in range(len(batches)):
        measured.update(*([parts[number] for parts in side] for side in sides))
    return measured.compute()


def numbered(inputs: dict[str, torch.Tensor], side: str) -> list[torch.Tensor]:
    found = []
    while f"{side}{len(found)}" in inputs:
        found.append(inputs[f"{side}{len(found)}"])
    return found


def compute_cka(case: Case) -> dict[str, torch.Tensor]:
    config, inputs = case.config, tensors(case)
    first, second = numbered(inputs, "a"), numbered(inputs, "b")
    second.append(first[0] + 0.5 * inputs["mix"])
    config.check(layers_a=len(first), layers_b=len(second))
    batches = config["batches"]
    computed = {f"cka_{mode}": similarity(first, second, tokens, batches) for mode, tokens in TOKENS.items()}
    whole = [len(first[0])]
    computed |= {f"cka_{mode}_one_batch": similarity(first, second, tokens, whole) for mode, tokens in TOKENS.items()}
    grams = gram(first[0].double()), gram(second[-1].double())
    pairs = [(grams[0], grams[0]), (grams[0], grams[1]), (grams[1], grams[1])]
    return computed | {"hsic_unnormalised": torch.stack([hsic(*pair) for pair in pairs])}


def compute_objects(case: Case) -> dict[str, torch.Tensor]:
    config = case.config
    masks = list(tensors(case)["object_masks"].numpy())
    categories = config["category_ids"]
    skipped = len(categories) - len(masks)  # whose polygons are too short
    computed = {}
    for name, grid, crop in (
        ("whole", config.get("grid_whole"), False),
        ("center_crop", config.get("grid_center_crop"), True),
    ):
        if grid is None:
            continue
        found, indices = token_masks(masks, tuple(grid), crop)
        computed |= {
            f"{name}_masks": torch.from_numpy(found),
            f"{name}_labels": torch.tensor([categories[index] for index in indices]),
            f"{name}_skips_loads": torch.tensor([skipped + len(masks) - len(indices), len(indices)]),
            f"{name}_union": torch.from_numpy(union_mask(found)).double(),
        }
    return computed


def compute_pooling(case: Case) -> dict[str, torch.Tensor]:
    inputs, side = tensors(case), case.config["grid"]
    masks = inputs["masks"].abs()
    assert masks.shape[1:] == (side, side), f"masks of {tuple(masks.shape)} on a grid of {side}"
    masks = masks / masks.sum(dim=(1, 2), keepdim=True)
    return {"object_features": object_features(inputs["features"][:, 1:], masks)}


def compute_clusters(case: Case) -> dict[str, torch.Tensor]:
    inputs, number = tensors(case), case.config["k"]
    labels, clusters = inputs["labels"], inputs["clusters"]
    features = inputs["centers"][(labels - 1) // 2] + inputs["noise"]
    scores = cluster_scores(features, labels, number)
    names = ("normalized_mutual_information", "adjusted_rand_index", "purity")
    truth, found = labels.numpy(), clusters.numpy()
    return {
        "purity": torch.tensor(purity(truth, found), dtype=torch.float64),
        "nmi": torch.tensor(normalized_mutual_information(truth, found), dtype=torch.float64),
        "ari": torch.tensor(adjusted_rand_index(truth, found), dtype=torch.float64),
        "kmeans_nmi_ari_purity": torch.tensor([scores[name] for name in names], dtype=torch.float64),
    }


def compute_neighbours(case: Case) -> dict[str, torch.Tensor]:
    config, inputs = case.config, tensors(case)
    train, test = (
        normalize(inputs["centers"][inputs[f"{part}_labels"]] + inputs[part], dim=1) for part in ("train", "test")
    )
    ks = config["k"]
    computed = {}
    for k in [ks] if isinstance(ks, int) else ks:
        votes = vote(test, train, inputs["train_labels"], k, config["num_classes"], config["temperature"])
        top = [100 * top_accuracy(votes, inputs["test_labels"], rank) for rank in (1, min(5, k))]
        computed[f"top1_top5_k{k}"] = torch.tensor(top, dtype=torch.float64)
    return computed


def compute_retrieval(case: Case) -> dict[str, torch.Tensor]:
    inputs, ks = tensors(case), case.config["kappas"]
    relevance = inputs["relevance"].numpy()
    computed = {"ranks": torch.from_numpy(rank(inputs["queries"], inputs["database"]))}
    for protocol in ("easy", "medium", "hard"):
        found = retrieve(inputs["queries"], inputs["database"], relevance, protocol, ks)
        computed |= {
            f"{protocol}_map": torch.tensor(found.mean_average_precision, dtype=torch.float64),
            f"{protocol}_ap": torch.from_numpy(np.nan_to_num(found.average_precision, nan=-1)),
            f"{protocol}_precision_at_k": torch.tensor(list(found.precision.values()), dtype=torch.float64),
        }
    return computed


def compute_keypoints(case: Case) -> dict[str, torch.Tensor]:
    config, inputs = case.config, tensors(case)
    side = config["image_size"]
    rows = side // config["patch"]
    maps = inputs["source"], inputs["source"] + 0.3 * inputs["change"]
    sources, targets = (features[:, 1:].mT.unflatten(2, (rows, rows)) for features in maps)
    keypoints = inputs["keypoints"]
    found, truth, sizes, best = [], [], [], []
    for pair, (source, target) in enumerate(zip(sources, targets, strict=True)):
        ours, theirs = keypoints[2 * pair], keypoints[2 * pair + 1]
        visible = ours[:, 2] * theirs[:, 2] > 0
        places, similarities = transfer_keypoints(source, target, ours[visible][:, :2], side)
        found.append(places)
        best.append(similarities)
        truth.append(theirs[visible][:, :2])
        sizes.append(inputs["thresholds"][2 * pair + 1].expand(len(places)))
    places = torch.cat(found)
    scores = transferred_correctly(places, torch.cat(truth), torch.cat(sizes), config["alphas"])
    computed = {
        "pck": torch.tensor(list(scores.values())),
        "nearest_pixel": places[:, 1] * side + places[:, 0],
        "best_similarity": torch.cat(best),
    }
    for name, size in (("wide", (200, 120)), ("tall", (120, 200)), ("square", (150, 150))):
        padded, corner, scale = pad_keypoints(inputs["raw_keypoints"], size, side)
        computed |= {
            f"padded_{name}": padded,
            f"offset_scale_{name}": torch.tensor([*corner, scale], dtype=torch.float64),
        }
    return computed


def compute_propagation(case: Case) -> dict[str, torch.Tensor]:
    config, inputs = case.config, tensors(case)
    side, radius = config["grid"], config["size_mask_neighborhood"]
    labels = one_hot(inputs["first_segmentation"].long()).permute(2, 0, 1).float()
    soft = propagate_video(
        inputs["features"][:, 1:], labels, config["n_last_frames"], radius, config["topk"], config["temperature"]
    )
    patch, (height, width) = config["patch"], config["original_size_hw"]
    classes = label_maps(soft, patch).to(torch.uint8).numpy()
    resized = [np.array(Image.fromarray(frame).resize((width, height), Image.Resampling.NEAREST)) for frame in classes]
    return {
        "soft_segmentation": soft,
        "labels": torch.from_numpy(np.stack(resized)),
        "normalised_last": normalize_masks(soft[-1]),
        "neighbourhood": neighbourhood((side, side), radius).to(torch.int8),
        "first_one_hot": labels[None],
    }


def encoder(case: Case):
    """The model of a case's checkpoint, checked against the case's configuration."""
    config, checkpoint = case.config, case.checkpoint()
    if "visual.class_embedding" in checkpoint:
        return timm_clip(case, checkpoint).eval()
    if "blocks.0.gamma_1" in checkpoint:
        return timm_beit(case, checkpoint).eval()
    # MAE's decoder, and the heads of MoCo v3 and timm, are not analysed.
    checkpoint = {key: value for key, value in checkpoint.items() if not key.startswith(NOT_ANALYSED)}
    model = convert("dino", "vit_small_patch16", checkpoint, num_attention_heads=config["heads"]).eval()
    built = model.config
    config.check(
        patch=built.patch_size,
        embed_dim=built.hidden_size,
        depth=built.num_hidden_layers,
        qkv_bias=built.qkv_bias,
        mlp_ratio=built.intermediate_size / built.hidden_size,
        layer_norm_eps=built.layer_norm_eps,
    )
    return model


def timm_sizes(case: Case, embed_dim: int, depth: int, positions: int | None) -> dict:
    """What timm's models need, out of a case's configuration and the sizes of its checkpoint."""
    config = case.config
    patch = config["patch"]
    config.check(embed_dim=embed_dim, depth=depth, mlp_ratio=4, qkv_bias=True)
    side = config["image_size"] if positions is None else round((positions - 1) ** 0.5) * patch
    sizes = {"img_size": side, "patch_size": patch, "embed_dim": embed_dim, "depth": depth}
    return sizes | {"num_heads": config["heads"], "num_classes": 0}


def count_blocks(checkpoint: dict, prefix: str) -> int:
    return len({key.removeprefix(prefix).partition(".")[0] for key in checkpoint if key.startswith(prefix)})


def timm_clip(case: Case, checkpoint: dict) -> VisionTransformer:
    """CLIP's vision encoder from OpenAI's keys."""
    positions, width = checkpoint["visual.positional_embedding"].shape
    depth = count_blocks(checkpoint, "visual.transformer.resblocks.")
    case.config.check(layer_norm_eps=1e-5)
    model = VisionTransformer(
        **timm_sizes(case, width, depth, positions),
        pre_norm=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-5),
        act_layer=QuickGELU,
    )
    weights = {key: torch.from_numpy(value) for key, value in checkpoint.items() if key != "visual.proj"}
    model.load_state_dict(checkpoint_filter_fn(weights, model))
    return model


def timm_beit(case: Case, checkpoint: dict) -> Beit:
    """BEiT, with a table of relative position biases in each block or one for all."""
    width = checkpoint["cls_token"].shape[-1]
    shared = checkpoint.get("rel_pos_bias.relative_position_bias_table")
    eps = case.config.get("layer_norm_eps", 1e-6)
    absolute = checkpoint.get("pos_embed")
    model = Beit(
        **timm_sizes(case, width, count_blocks(checkpoint, "blocks."), None),
        use_rel_pos_bias=True,
        use_abs_pos_emb=absolute is not None,
        init_values=0.1,
        norm_layer=partial(nn.LayerNorm, eps=eps),
    )
    weights = {
        key: torch.from_numpy(value)
        for key, value in checkpoint.items()
        if key in model.state_dict() and "relative_position_index" not in key
    }
    if shared is not None:
        tables = [key for key in model.state_dict() if key.endswith("attn.relative_position_bias_table")]
        weights |= {key: torch.from_numpy(shared) for key in tables}
    missing, _ = model.load_state_dict(weights, strict=False)
    assert not [key for key in missing if "index" not in key and not key.startswith(NORMS)], f"no {missing}"
    return model


def compute_dense(case: Case) -> dict[str, torch.Tensor]:
    config, model = case.config, encoder(case)
    image = Image.fromarray(tensors(case)["image"].numpy())
    config.check(image_size_wh=list(image.size))
    window, factor, patch, blocks = (config[name] for name in ("window", "tile_factor", "patch", "blocks"))
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, DEVIATION))

    def encode(windows: list[np.ndarray]) -> torch.Tensor:
        pixels = torch.stack([torch.from_numpy(w.copy()).permute(2, 0, 1) / 255 for w in windows])
        return torch.stack(record(model, (pixels - mean) / deviation, "blocks", blocks).blocks)[:, :, 1:]

    width, height = tiled_size(image.size, window, factor, patch)
    return {
        "features": tiled_features(image, encode, window, factor, patch),
        "resized_hw": torch.tensor([height, width]),
        "window_origins": torch.tensor(tile_origins((width, height), window)),
    }


def compute_model(case: Case) -> dict[str, torch.Tensor]:
    config, model, inputs = case.config, encoder(case), tensors(case)
    size, blocks, batches = config["image_size"], config["blocks"], config["batches"]
    pixels = interpolate(inputs["coarse"], (size, size), mode="bilinear", align_corners=False) + inputs["fine"]
    wanted = ["blocks", "attentions", "norm1", "norm2", "attention_branches", "mlp_branches"]
    seen = record(model, pixels, wanted)
    computed = metrics(torch.stack(seen.attentions, dim=1), 1)
    states = torch.stack(seen.blocks, dim=1)
    computed |= {"cls_features": states[:, :, 0], "spatial_mean_features": states[:, :, 1:].mean(dim=2)}
    norms = [norm[block] for block in blocks for norm in (seen.norm1, seen.norm2)]
    computed["cka_norm_layers"] = similarity(norms, norms, "all", batches)
    chosen = [seen.blocks[block] for block in blocks]
    for mode, tokens in TOKENS.items():
        computed[f"cka_blocks_to_last_{mode}"] = similarity(chosen, seen.blocks[-1:], tokens, batches)
    for name, branches in (("attn", seen.attention_branches), ("mlp", seen.mlp_branches)):
        skips, added = ([getattr(branches[block], part) for block in blocks] for part in ("skip", "branch"))
        computed[f"cka_{name}_residual"] = similarity(skips, added, "all", batches)
        for mode, tokens in TOKENS.items():
            ratios = torch.stack([norm_ratio(addends, "frobenius", tokens) for addends in branches])
            means = [part.mean(dim=1) for part in ratios.split(batches, dim=1)]
            computed[f"{name}_skip_to_branch_norm_{mode}"] = torch.stack(means, dim=1)
    return computed


COMPUTE = {
    "attention_metrics": compute_metrics,
    "attention_saliency": compute_saliency,
    "cka": compute_cka,
    "object_token_masks": compute_objects,
    "object_feature_pooling": compute_pooling,
    "clustering": compute_clusters,
    "knn": compute_neighbours,
    "retrieval": compute_retrieval,
    "keypoint": compute_keypoints,
    "davis": compute_propagation,
    "dense": compute_dense,
}
