"""Golden cases of moabarar/qna: models, single layers (`layer_`) and the resizing of tables (`tables_`)."""

from math import isqrt

import torch

from hf_vits.conversion import convert
from hf_vits.conversion.checkpoint import unwrap
from hf_vits.conversion.core import apply_transforms
from hf_vits.conversion.systems.qna import prepare, query_table, resize_table, transforms
from hf_vits.layers.window import merge
from hf_vits.models.qna.attention_qna import LearnedQueryAttention
from hf_vits.models.qna.configuration_qna import QnaConfig

from .golden import Case, Config
from .record import recording

SCALES = {
    "normal": "learned",
    "normal_elementwise": "learned_per_head",
    "ones": "learned_from_ones",
    "posneg": "signed",
    "avg": "mean",
    "none": "none",
}
POOLINGS = {"gap": "mean", "qnav1": "learned_query", "qnav2": "learned_query_and_mean"}


def compute(case: Case) -> dict[str, torch.Tensor]:
    if case.path.stem.startswith("tables_"):
        return compute_tables(case)
    return compute_layer(case) if case.path.stem.startswith("layer_") else compute_model(case)


def compute_model(case: Case) -> dict[str, torch.Tensor]:
    pixel_values = torch.from_numpy(case.inputs()["pixel_values"]).permute(0, 3, 1, 2)
    fields = model_fields(case.config) | {"image_size": list(pixel_values.shape[-2:])}
    model = convert("qna", "qna_vit_tiny", case.checkpoint(), **fields)
    check(case.config, model.config)
    encoder, last = model.model, len(model.model.stages) - 1
    modules = {"stem": encoder.embeddings, f"qna_stage_{last}": encoder.stages[last]}
    for index, stage in enumerate(encoder.stages):
        if stage.downsampling is not None:
            modules[f"qna_stage_{index - 1}"] = stage.downsampling
        if stage.window_depth:
            modules[f"lsa_stage_{index}"] = stage.layers[stage.window_depth - 1]
    with recording(modules) as seen:
        outputs = model(pixel_values, output_hidden_states=True)
    for name in ("stem", f"qna_stage_{last}"):
        seen[name] = seen[name].permute(0, 2, 3, 1)
    for index, stage in enumerate(encoder.stages):
        if stage.window_depth:
            grid = outputs.hidden_states[index + 1].shape[-2:]
            seen[f"lsa_stage_{index}"] = merge(seen[f"lsa_stage_{index}"], stage.window, grid)
    return seen | {"pooled": encoder(pixel_values).pooler_output, "logits": outputs.logits}


def model_fields(config: Config) -> dict:
    sizes = [config["base_dim"] * 2**stage for stage in range(config["n_stages"])]
    window_depths, query_depths = config["lsa_layers"], config["qna_layers"]
    return {
        "depths": [sum(pair) for pair in zip(window_depths, query_depths, strict=True)],
        "window_depths": window_depths,
        "hidden_sizes": sizes,
        "num_attention_heads": config["lsa_heads"],
        "num_query_heads": config["qna_heads"],
        "window_sizes": config["lsa_window"],
        "kernel_sizes": config["qna_receptive_field"],
        "normalize_queries": all(config["qna_normalize_q"]),
        "attention_scale": SCALES[config["qna_attention_scale"]],
        "pooling": POOLINGS[config["classification_head_type"]],
        "layer_scale_init_value": config["layer_scale"],
        "drop_path_rate": config["drop_path"],
        "attention_probs_dropout_prob": config["lsa_attention_dropout"],
    }


def check(config: Config, built) -> None:
    """Compare what the file recorded of the model, and what every model here has, with the case's configuration."""
    config.check(
        qna_normalize_q=[built.normalize_queries] * len(built.depths),
        qna_pos_embedding_type="relative_pos",
        lsa_pos_embedding_type="relative_pos",
        qna_num_queries=built.num_queries,
        qna_attention_dropout=0.0,
        mlp_ratio=built.mlp_ratio,
        mlp_dropout=0.0,
        activation_fn={"gelu_pytorch_tanh": "gelu"}[built.hidden_act],
        stem_type=built.stem_type,
        qna_down_skip={"average": "avgpool", "convolution": "conv"}[built.shortcut_type],
    )
    # Ways to compute the same, and what changes training alone.
    config.unused("qna_implementation", "qna_normalize_stop_grads", "drop_path_downsample")


def compute_layer(case: Case) -> dict[str, torch.Tensor]:
    config = case.config
    layer = LearnedQueryAttention(
        config["in_features"],
        config["features"],
        config["heads"],
        config["kernel_size"],
        config["stride"],
        config["padding"],
        num_queries=config.get("n_queries", 2),
        attention_scale=SCALES[config.get("attn_scale", "normal")],
        normalize_queries=config.get("normalize_q", True),
        out_channels=config.get("out_features"),
        bias=config["use_bias"],
        scale_position_bias=config.get("scale_rpe_bias", False),
    )
    # As if it were the first layer of a model.
    tensors = {f"QnAStage_0/QnA_Block_1/FusedKQnA_0/{key}": v for key, v in unwrap(case.checkpoint()).items()}
    model_config = QnaConfig(kernel_sizes=[config["kernel_size"]] * 4)
    tensors = prepare(tensors, {"kernel_sizes": model_config.kernel_sizes})
    tensors = apply_transforms(tensors, transforms(model_config))
    prefix = "model.stages.0.layers.0.attention."
    layer.load_state_dict({key.removeprefix(prefix): value for key, value in tensors.items()})
    return {"out": layer(torch.from_numpy(case.inputs()["x"]))}


def compute_tables(case: Case) -> dict[str, torch.Tensor]:
    bias, scale = unwrap(case.checkpoint()).values()
    case.config.check(old_window=(isqrt(len(bias)) + 1) // 2, old_kernel=isqrt(scale.shape[-2]))
    side, kernel = 2 * case.config["new_window"] - 1, case.config["new_kernel"]
    resized = query_table(scale, 1, (kernel, kernel))  # of one query or two, its channels keep their order
    return {
        "rpe_bias_resized": resize_table(bias, (side, side)),
        "attn_scale_resized": resized.flatten(2).permute(0, 2, 1)[None],
    }
