"""Golden cases of Muzammal-Naseer/Intriguing-Properties-of-Vision-Transformers: models, occlusion, segmentation."""

from typing import Any

import torch
from torch.nn.functional import adaptive_avg_pool2d

from hf_vits.analysis.robustness import interventions, occlusion
from hf_vits.conversion import convert
from hf_vits.models.deit.modeling_deit import DeiTForImageClassification
from hf_vits.pretraining.linear_probe.modeling_linear_probe import layer_features

from .golden import Case, Config
from .record import eager_attentions
from .self_supervision import tensors


def compute(case: Case) -> dict[str, torch.Tensor]:
    config = case.config
    if "settings" in config:
        return compute_occlusion(case)
    if "ignore" in config:
        return compute_jaccard(case)
    if "drop_layer" in config or not any(key.startswith("patch_embed.") for key in case.meta["keys"]):
        return compute_resnet(case)
    if "use_top_n_heads" in config:
        return compute_ensemble(case)
    return compute_model(case)


def classifier(config: Config, checkpoint: dict) -> DeiTForImageClassification:
    """The DeiT of a checkpoint, checked against its configuration."""
    has_shape, has_positions = "dist_token" in checkpoint, "pos_embed" in checkpoint
    patch_size = config["patch_size"]
    if patch_size != 16:
        variant = f"patch_{patch_size if patch_size in (22, 28, 32, 38) else 32}_deit_t"
    else:
        variant = "no_pos_deit_t" if not has_positions else f"deit_t_sin{'_dist' if has_shape else ''}"
    model = convert(
        "shape_deit",
        variant,
        checkpoint,
        num_attention_heads=config["num_heads"],
        layer_norm_eps=config["layer_norm_eps"],
    )
    built = model.config
    config.check(
        embed_dim=built.hidden_size,
        depth=built.num_hidden_layers,
        mlp_ratio=built.intermediate_size / built.hidden_size,
        qkv_bias=built.qkv_bias,
        patch_size=built.patch_size,
        image_size=built.image_size,
        shape_token=built.distilled,
        position_embedding=built.position_embedding_type == "learned",
        num_classes=built.num_labels,
    )
    return model


def compute_model(case: Case) -> dict[str, torch.Tensor]:
    config, inputs = case.config, tensors(case)
    model = classifier(config, case.checkpoint())
    encoder, image = model.model, inputs["image"]
    if "block_index" in config:
        return compute_feature_drop(case, model)
    outputs, base = model(image), encoder(image, output_hidden_states=True)
    computed: dict[str, Any] = {
        "logits": outputs.logits,
        "logits_class": outputs.cls_logits,
        "logits_shape": outputs.distillation_logits,
        "token_class": base.last_hidden_state[:, 0],
        "token_shape": base.last_hidden_state[:, 1],
        "feature": base.last_hidden_state[:, 0],
        **{f"logits_block{i}": logits for i, logits in enumerate(interventions.layer_logits(model, image))},
        **{f"tokens_block{i}": encoder.norm(state) for i, state in enumerate(base.hidden_states[1:])},
    }
    image = inputs.get("image_attn", image)
    attention = eager_attentions(encoder, pixel_values=image)[-1]
    grid, prefix = encoder.embeddings.grid(*image.shape[-2:]), model.config.num_prefix_tokens
    for row, token in enumerate(("class", "shape")[:prefix]):
        computed[f"last_attention_{token}"] = attention[:, :, row]
        for name in case.meta["outputs"]:
            if name.startswith(f"mask_{token}_"):
                threshold = float(name.rpartition("_")[2])
                computed[name] = occlusion.head_masks(attention[:, :, row, prefix:], grid, threshold).float()
    return computed


def compute_feature_drop(case: Case, model: DeiTForImageClassification) -> dict[str, torch.Tensor]:
    config, inputs = case.config, tensors(case)
    encoder, index, prefix = model.model, config["block_index"], model.config.num_prefix_tokens
    patches = inputs["image"].shape[-2] // config["patch_size"] * (inputs["image"].shape[-1] // config["patch_size"])
    count = len(interventions.draw_rows(patches + prefix, config["drop_rate"], num_prefix=prefix))
    config.unused("numpy_seed")  # of the rows, which are stored
    rows = inputs["rows"]
    assert len(rows) == count
    with interventions.dropped_tokens(model, index, rows):
        outputs = model(inputs["image"], output_hidden_states=True)
        logits = interventions.layer_logits(model, inputs["image"])
        states = list(encoder(inputs["image"], output_hidden_states=True).hidden_states[1:])
    if index:  # the original overwrites what it has recorded of the layer before
        states[index - 1] = states[index - 1].index_fill(1, rows + prefix, 0.0)
    return {
        "logits": outputs.logits,
        **{f"logits_block{i}": scores for i, scores in enumerate(logits)},
        **{f"tokens_block{i}": encoder.norm(state) for i, state in enumerate(states)},
    }


def compute_ensemble(case: Case) -> dict[str, torch.Tensor]:
    """The features are those of a linear probe; its classifier is another than the checkpoint's ViT would have."""
    config, checkpoint = case.config, case.checkpoint()
    weight, bias = (torch.from_numpy(checkpoint.pop(f"head.{part}")) for part in ("weight", "bias"))
    size = config["embed_dim"]
    checkpoint |= {"head.weight": weight[:, :size].numpy(), "head.bias": bias.numpy()}
    model = classifier(config, checkpoint)
    features = layer_features(
        model.model, tensors(case)["image"], config["use_top_n_heads"], config["use_patch_outputs"]
    )
    return {"feature": features, "logits": torch.nn.functional.linear(features, weight, bias)}


def compute_resnet(case: Case) -> dict[str, torch.Tensor]:
    config, inputs = case.config, tensors(case)
    model: Any = convert("sfc", "resnet50_imagenet", case.checkpoint())
    image = inputs["image"]
    computed = {"logits_clean": model(image).logits}
    if config.get("drop_layer"):
        stages, layer = model.model.stages, config["drop_layer"]
        stage = stages[min(layer, len(stages)) - 1]
        rate, draws = config["drop_percent"], inputs["uniform"]
        with interventions.dropped_places(stage, rate, draws=draws, after=layer > len(stages)):
            computed["logits"] = model(image).logits
    else:
        config.unused("drop_percent")
    return {"logits": computed["logits_clean"]} | computed


def compute_jaccard(case: Case) -> dict[str, torch.Tensor]:
    inputs = tensors(case)
    ignore = tuple(case.config["ignore"])
    return {"jaccard": torch.tensor([occlusion.jaccard(inputs["pred"], inputs["target"], ignore)])}


def compute_occlusion(case: Case) -> dict[str, torch.Tensor]:
    config, inputs = case.config, tensors(case)
    config["numpy_seeds"].unused(*config["numpy_seeds"])  # of the cells, which are stored
    parts: dict[str, dict] = {"classifier.": {}, "dino.": {}}
    for key, value in case.checkpoint().items():
        prefix = next(prefix for prefix in parts if key.startswith(prefix))
        parts[prefix][key.removeprefix(prefix)] = value
    model = classifier(config["classifier"], parts["classifier."])
    images = inputs["image"]
    mean, std = (torch.tensor(config["normalise"][name]).view(3, 1, 1) for name in ("mean", "std"))
    outputs: dict[str, torch.Tensor] = {}
    if "saliency" in config:
        attention = head_attention(config["saliency"], parts["dino."], (images - mean) / std)
        outputs[f"dino_head{config['saliency']['head']}_attention"] = attention
    for name, setting in config["settings"].items():
        grid = setting.get("shuffle_size", 14)
        grid = (grid, grid) if isinstance(grid, int) else tuple(grid)
        if setting.get("shuffle"):
            changed = occlusion.shuffle(images, inputs[f"rows_{name}"].long(), grid)
            outputs[f"{name}/grid_mean"] = adaptive_avg_pool2d(changed, grid)
            height, width = occlusion.check_grid(images, grid)
            outputs[f"{name}/top_left_pixel"] = changed[:, :, ::height, ::width]
        else:
            if setting.get("dino"):
                side = int(attention.shape[1] ** 0.5)
                keep = not setting.get("drop_best", False)
                mask = occlusion.salient_mask(attention, (side, side), setting["drop_lambda"], keep_salient=keep)
            else:
                setting.check(random_drop=True)
                rows = inputs.get(f"rows_{name}", torch.empty(0)).long()
                assert len(rows) == setting["drop_count"]
                mask = occlusion.mask_of_cells(rows, grid)
            offset = 8 if setting.get("random_offset_drop") else 0
            changed = occlusion.occlude(images, mask, offset)
            batched = mask.expand(len(images), -1, -1)
            outputs[f"{name}/kept"] = batched.float()
            pixels = occlusion.pixel_mask(images, mask, offset).float()
            outputs[f"{name}/pixels_kept"] = pixels
        outputs[f"{name}/logits"] = model((changed - mean) / std).logits
    return outputs


def head_attention(config: Config, checkpoint: dict, pixel_values: torch.Tensor) -> torch.Tensor:
    """What the class token of a DINO attends to in one head of the last layer, (images, patches)."""
    fields = {"num_attention_heads": config["num_heads"], "layer_norm_eps": config["layer_norm_eps"]}
    has_head = {key: value for key, value in checkpoint.items() if not key.startswith("head.")}
    name = f"vit_small_patch{config['patch_size']}"
    model = convert("dino", name, has_head, position_interpolation="bicubic_scale", **fields)
    built = model.config
    config.check(
        embed_dim=built.hidden_size,
        depth=built.num_hidden_layers,
        mlp_ratio=built.intermediate_size / built.hidden_size,
        qkv_bias=built.qkv_bias,
        patch_size=built.patch_size,
        image_size=built.image_size,
    )
    return eager_attentions(model, pixel_values=pixel_values)[-1][:, config["head"], 0, 1:]
