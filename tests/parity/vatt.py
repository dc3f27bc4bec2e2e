"""Golden cases of google-research/vatt: classifiers, pre-training models, losses, and the spline of positions."""

import re

import torch

from hf_vits.conversion import convert
from hf_vits.layers.position import interpolate_positions
from hf_vits.models.vatt.configuration_vatt import VattConfig
from hf_vits.models.vatt.contrastive_vatt import modality_losses
from hf_vits.objectives import CrossEntropy, FrequencyBalancedCrossEntropy

from .golden import Case, Config
from .record import eager_attentions, recording

LOSSES = {"AsymmetricNCE": "asymmetric_nce", "SymmetricNCE": "symmetric_nce"}
STRIDES = re.compile(r"(.+?)_s((?:\d+_?)+)$")


def compute(case: Case) -> dict[str, torch.Tensor]:
    if "pairs" in case.config:
        computed = compute_spline(case)
    elif case.meta["variant"] in LOSSES:
        computed = compute_losses(case)
    elif "model_arch" in case.config:
        computed = compute_pretraining(case)
    else:
        computed = compute_classifier(case)
    return with_strides(case, computed)


def with_strides(case: Case, computed: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What was computed, and what a case names `X_sA_B_C`: every A-th, B-th, C-th entry of the axes of X."""
    parts = {}
    for name in case.meta["outputs"]:
        if name not in computed and (match := STRIDES.match(name)) and match[1] in computed:
            steps = [slice(None, None, int(step)) for step in match[2].split("_")]
            parts[name] = computed[match[1]][tuple(steps)]
    return computed | parts


def tensors(case: Case) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value) for name, value in case.inputs().items()}


def compute_spline(case: Case) -> dict[str, torch.Tensor]:
    """Tables of positions, resized; the original's own float32 results are compared where they mean something."""
    case.config.check(order=3)
    computed = {}
    for old, new in case.config["pairs"]:
        table = tensors(case)[f"table_{old}_to_{new}"][None]
        computed[f"exact_{old}_to_{new}"] = interpolate_positions(table, (old,), (new,), "polyharmonic_spline")[0]
    return computed


def compute_losses(case: Case) -> dict[str, torch.Tensor]:
    config, inputs = case.config, tensors(case)
    weights = config["weights"]
    model_config = VattConfig(
        temperature=config["temperature"],
        loss_type=LOSSES[case.meta["variant"]],
        video_text_weight=weights.get("vid_txt_weight", 1.0),
        video_audio_weight=weights.get("vid_aud_weight", 1.0),
    )
    clips = len(inputs["video_toaud"])
    config.check(text_candidates=len(inputs["text_tovid"]) // clips)
    names = {"video_audio": "video_toaud", "video_text": "video_totxt", "audio": "audio_tovid", "text": "text_tovid"}
    embeds = {f"{ours}_embeds": inputs[theirs] for ours, theirs in names.items()}
    masks = {name: inputs.get(name) for name in ("text_mask", "audio_mask")}
    losses = modality_losses(embeds, model_config, **masks)
    theirs = {"loss": "loss", "vidtxt_loss": "video_text_loss", "vidaud_loss": "video_audio_loss"}
    return {name: losses[ours][None] for name, ours in theirs.items()}


def encoder_fields(config: Config) -> dict:
    """What no tensor records of an encoder."""
    fields = config.renamed({"activation": "hidden_act", "layer_norm_epsilon": "layer_norm_eps"})
    fields |= dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), config["dropout_rate"])
    if config.get("random_patch_sampling"):
        fields["kept_token_fraction"] = config["patch_sampling_rate"]
    return fields


def compute_classifier(case: Case) -> dict[str, torch.Tensor]:
    config, inputs = case.config, tensors(case)
    variant, *arguments = classifier_inputs(case, inputs)
    fields = encoder_fields(config) | {"classifier_dropout_prob": config["cls_dropout_rate"]}
    model = convert("vatt", variant, case.checkpoint(), **fields)
    check(config, model)
    model.train(case.meta["training_mode"])
    permutation = {}
    if "token_permutation" in inputs:
        permutation["token_permutation"] = inputs["token_permutation"].long()
    encoder = model.model
    parts = {"patches": encoder.embeddings.patch_embedding, "positions": encoder.embeddings.position_embedding}
    with recording(parts) as seen:
        outputs = encoder(*arguments, **permutation)
    attentions = eager_attentions(encoder, **{encoder.main_input_name: arguments[-1]}, **permutation)
    logits = model(*arguments, **permutation).logits.unflatten(0, (-1, config["num_test_samples"])).mean(1)
    features = outputs.last_hidden_state[:, 1:]
    if not case.meta["training_mode"]:
        features = features.unflatten(1, seen["patches"].shape[1:-1])
    if "labels" in inputs:
        loss, _ = CrossEntropy(label_smoothing=0.1)(logits, inputs["labels"].long())
        probabilities = logits.softmax(1)
    else:
        loss, _ = FrequencyBalancedCrossEntropy()(logits, inputs["multi_hot_labels"].float())
        probabilities = logits.sigmoid()
    return {
        "patch_embeddings": seen["patches"].flatten(1, -2),
        "position_embeddings": seen["positions"],
        "features_pooled": outputs.pooler_output,
        "features": features,
        "attention_0": attentions[0],
        "attention_last": attentions[-1],
        "logits": logits,
        "probabilities": probabilities,
        "loss": loss[None],
    }


def classifier_inputs(case: Case, inputs: dict[str, torch.Tensor]) -> tuple:
    """Return the variant that a case of a classifier resembles, and the arguments of the model."""
    if "images" in inputs:
        return "vit_base_k400", inputs["images"].movedim(-1, 2)
    audio = inputs["audio"][..., 0]
    return ("wat_base_audioset", audio) if audio.ndim == 2 else ("spt_base_audioset", None, audio)


def check(config: Config, model) -> None:
    """Compare what the file recorded of the model with the case's configuration."""
    built = model.config
    names = {"vatt_video": VIDEO_BUCKETS, "vatt_audio": AUDIO_BUCKETS}[built.model_type.removeprefix("hf_vits_")]
    config.check(
        **dict(zip(names, built.grid, strict=False)),
        d_model=built.hidden_size,
        d_kv=built.hidden_size // built.num_attention_heads,
        d_ff=built.intermediate_size,
        num_layers=built.num_hidden_layers,
        num_heads=built.num_attention_heads,
        num_classes=built.num_labels,
        use_bias=built.use_bias,
        pre_projection=built.pre_projection,
        post_projection=built.post_projection_size is not None,
        post_proj_activation=built.hidden_act,
        pre_norm=True,
        use_masking=False,
    )
    if config["post_projection"]:
        config.check(d_post_proj=built.post_projection_size)
    sides = getattr(built, "tubelet_size", None) or built.patch_size
    sides = [sides] if isinstance(sides, int) else list(sides)
    config.check(
        temporal_patch_size=sides[0],
        temporal_patch_stride=sides[0],
        spatial_patch_size=sides[-1],
        spectoral_patch_size=sides[-1],
    )


VIDEO_BUCKETS = ("max_temporal_buckets", "max_vertical_buckets", "max_horizontal_buckets")
AUDIO_BUCKETS = ("max_temporal_buckets", "max_spectoral_buckets")


def compute_pretraining(case: Case) -> dict[str, torch.Tensor]:
    config, inputs = case.config, tensors(case)
    is_training = case.meta["training_mode"]
    shared = config["model_arch"] == "ut_fac"
    overrides: dict = {"temperature": config["temperature"], "loss_type": config["loss"]}
    if is_training:  # the case's notes: every dropout rate is 0
        rates = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        overrides |= {f"{name}_config": dict(rates) for name in ("video", "audio", "text")}
    model = convert("vatt", "ut_fac_medium" if shared else "tx_fac_bbs", case.checkpoint(), **overrides)
    check_pretraining(config, model.config)
    model.train(is_training)
    arguments = {
        "pixel_values": inputs["video"].movedim(-1, 2),
        "input_values": inputs["audio"][..., 0],
        "input_ids": inputs["text"].long().unflatten(0, (-1, config["text_candidates"])),
        "audio_mask": inputs["audio_mask"],
        "text_mask": inputs["text_mask"],
    }
    for name in ("video_permutation", "audio_permutation"):
        if name in inputs:
            arguments[name] = inputs[name].long()
    with recording({"patches": model.model.video_model.embeddings.patch_embedding}) as seen:
        outputs = model(**arguments)
    computed = {
        "video_toaud": outputs.video_audio_embeds,
        "video_totxt": outputs.video_text_embeds,
        "audio_tovid": outputs.audio_embeds,
        "text_tovid": outputs.text_embeds,
        "text_attention_mask": (inputs["text"] != model.config.text_config.pad_token_id).float(),
        "loss/bridge_losses/asymmetric_nce/vidtxt_loss": outputs.video_text_loss[None],
        "loss/bridge_losses/asymmetric_nce/vidaud_loss": outputs.video_audio_loss[None],
        "loss/regularization_loss": torch.zeros(1),
    }
    for name in ("bridge_losses/total_loss", "model_loss", "total_loss"):
        computed[f"loss/{name}"] = outputs.loss[None]
    for name in ("video", "audio", "text"):
        part = outputs[f"{name}_model_output"]
        computed[f"{name}_features_pooled"] = part.pooler_output
        computed[f"{name}_features"] = part.last_hidden_state[:, 1:]
    if not is_training:
        computed["video_features"] = computed["video_features"].unflatten(1, seen["patches"].shape[1:-1])
    for ours, theirs in NORMS.items():
        norm = model.model.projections.get_submodule(ours)
        computed[f"updated/0/{theirs}/moving_mean"] = norm.running_mean
        computed[f"updated/0/{theirs}/moving_variance"] = norm.running_var
    return computed


NORMS = {"video_to_audio.1": "hid_to_va/pre_bn", "video_to_audio.4": "hid_to_va/bn", "video_to_text.2": "va_to_vat/bn"}
# {(layers, channels) of an encoder: the original's name of the size}
SIZES = {(12, 768): "base", (12, 1024): "medium", (24, 1024): "large", (6, 512): "small"}


def check_pretraining(config: Config, built: VattConfig) -> None:
    """Compare what the file recorded of the model with the case's configuration."""
    video, audio, text = built.video_config, built.audio_config, built.text_config
    depth = {name: (config[f"{name}_overrides"] or {}).get("num_layers") for name in ("video", "audio", "unified")}
    frames, rows, columns = video.grid
    if built.shared_encoder:
        config.check(unified_backbone=f"ut_{SIZES[depth['unified'] or video.num_hidden_layers, video.hidden_size]}")
        parts = {"unified": {"max_vid_temporal_buckets": frames, "max_vid_spatial_buckets": rows}}
        parts["unified"]["max_aud_temporal_buckets"] = audio.grid[0]
        parts["unified"]["num_layers"] = video.num_hidden_layers
        assert rows == columns
        config.unused("video_backbone", "audio_backbone", "text_backbone")
    else:
        depths = {name: None if depth[name] else part.num_hidden_layers for name, part in built_parts(built).items()}
        sizes = {
            n: f"{p}_{size_of(depths[n], part)}" for n, p, part in (("video", "vit", video), ("audio", "wat", audio))
        }
        config.check(video_backbone=sizes["video"], audio_backbone=sizes["audio"])
        config.check(text_backbone=f"t5_{SIZES[text.num_hidden_layers, text.hidden_size]}", unified_backbone=None)
        buckets = dict(zip(VIDEO_BUCKETS, video.grid, strict=True))
        parts = {"video": buckets | {"num_layers": video.num_hidden_layers}}
        parts["audio"] = {"max_temporal_buckets": audio.grid[0], "num_layers": audio.num_hidden_layers}
    for name, fields in parts.items():
        if config[f"{name}_overrides"]:
            config[f"{name}_overrides"].check(**fields)


def built_parts(built: VattConfig) -> dict:
    return {"video": built.video_config, "audio": built.audio_config}


def size_of(depth: int | None, part) -> str:
    """Return the original's name of a size; where a case has changed the depth, by the channels alone."""
    return next(
        name for (layers, channels), name in SIZES.items() if channels == part.hidden_size and depth in (None, layers)
    )
