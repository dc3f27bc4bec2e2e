"""Golden cases of facebookresearch/mvit and SlowFast, and of detectron2's backbones."""

import torch
from torch import nn

from hf_vits.conversion import convert
from hf_vits.layers.convolution import to_tokens
from hf_vits.models.mvit.modeling_mvit import MvitModel

from .golden import Case, Config
from .record import with_channels


def compute(case: Case) -> dict[str, torch.Tensor]:
    pixel_values = torch.from_numpy(case.inputs()["pixel_values"])
    is_clip = pixel_values.ndim == 5
    if is_clip:
        pixel_values = pixel_values.transpose(1, 2)  # the original takes channels before frames
    variant = "mvitv2_s_16x4_k400" if is_clip else "mvitv2_t_in1k"
    checkpoint = case.checkpoint()
    model = convert("mvit", variant, checkpoint, **overrides(case.config, is_clip))
    check(case.config, checkpoint, model.config)
    seen = record_tokens(model.model)
    encoded = model.model(pixel_values)
    logits = model.classifier(encoded.pooler_output)
    computed = {
        **seen,
        "last_hidden_state": encoded.last_hidden_state,
        "pooled": encoded.pooler_output,
        "logits": logits,
        "probabilities": logits.softmax(dim=-1),
    }
    return with_channels(case, computed)


def overrides(config: Config, is_clip: bool) -> dict:
    """What no tensor records."""
    fields, axes = config["MVIT"], 3 if is_clip else 2
    kernel, adaptive, strides = (fields[f"POOL_{name}"] for name in ("KVQ_KERNEL", "KV_STRIDE_ADAPTIVE", "KV_STRIDE"))
    return {
        "patch_stride": fields["PATCH_STRIDE"][-axes:],
        "pooling_kernel_size": kernel and kernel[-axes:],
        "key_value_stride": (adaptive or strides[0])[-1],
        "use_class_token": fields["CLS_EMBED_ON"],
        "residual_pooling": fields["RESIDUAL_POOLING"],
        "image_size": config["crop_size"],
        "num_frames": config["num_frames"] if is_clip else None,
    }


def check(config: Config, checkpoint: dict, built) -> None:
    """Compare what the file recorded of the model, and what every model here has, with the case's configuration."""
    fields, axes = config["MVIT"], len(built.patch_size)
    starts = [sum(built.depths[:stage]) for stage in range(1, len(built.depths))]
    doubled, is_relative = [[start, 2.0] for start in starts], built.position_embedding_type == "relative"
    fields.check(
        PATCH_2D=axes == 2,
        PATCH_KERNEL=built.patch_size,
        PATCH_PADDING=[size // 2 for size in built.patch_size],
        EMBED_DIM=built.hidden_sizes[0],
        NUM_HEADS=built.num_attention_heads[0],
        DEPTH=sum(built.depths),
        MLP_RATIO=built.mlp_ratio,
        QKV_BIAS=built.qkv_bias,
        MODE="conv",
        POOL_FIRST=False,
        DIM_MUL=doubled,
        HEAD_MUL=doubled,
        USE_ABS_POS=not is_relative,
        SEP_POS_EMBED=not is_relative and axes == 3,
        REL_POS_SPATIAL=is_relative,
        REL_POS_TEMPORAL=is_relative and axes == 3,
        SEPARATE_QKV="blocks.0.attn.q.weight" in checkpoint,
        USE_MEAN_POOLING=False,
        NORM_STEM=False,
    )
    if max(built.depths) > 1:  # elsewhere one cannot see where widths change
        fields.check(DIM_MUL_IN_ATT=built.expand_in_attention)
    check_strides(fields, built, starts)
    config.check(num_classes=built.num_labels)
    if axes == 3:
        config.unused("sampling_rate")  # of the frames that make a clip, which the case holds
    elif "num_frames" in config:
        config.unused("num_frames", "sampling_rate")


def check_strides(fields: Config, built, starts: list[int]) -> None:
    """Compare how queries, keys and values are pooled in every layer, along height and width."""
    layers, first = sum(built.depths), built.key_value_stride
    stages = [sum(start <= layer for start in starts) for layer in range(layers)]
    halved = {layer: 2 if layer in starts else 1 for layer in range(layers)}
    pooled = {layer: max(first >> stage, 1) for layer, stage in enumerate(stages)}
    for name, expected, always in (
        ("POOL_Q_STRIDE", halved, built.pool_all_queries),
        ("POOL_KV_STRIDE", pooled, built.pool_all_keys),
    ):
        if fields[name] is not None:
            listed = {layer: strides[-1] for layer, *strides in fields[name]}
            assert all(set(strides[-2:]) == {strides[-1]} for _, *strides in fields[name]), fields[name]
            # Without `always`, a stride of 1 has a kernel of 1, which is no pooling.
            listed, expected = (
                {layer: stride for layer, stride in strides.items() if always or stride > 1}
                for strides in (listed, expected)
            )
            assert listed == expected, f"the case has {name}={fields[name]}, the model {expected}"


def record_tokens(encoder: MvitModel) -> dict[str, torch.Tensor]:
    """Return a dict that fills with the patch embeddings and the tokens after every layer."""
    seen: dict[str, torch.Tensor] = {}

    def record(module: nn.Module, name: str) -> None:
        def keep(module, arguments, output):
            seen.setdefault(name, to_tokens(output) if name == "patch_embed" else output)

        module.register_forward_hook(keep)

    record(encoder.embeddings.projection, "patch_embed")
    for index, layer in enumerate(layer for stage in encoder.stages for layer in stage.layers):
        record(layer, f"block{index}")
    return seen


def compute_detection(case: Case) -> dict[str, torch.Tensor]:
    """The backbone's maps, which a detector calls scale2 to scale5."""
    backbone = convert("mvit", "mvitv2_t_in1k", case.checkpoint())
    maps = backbone(torch.from_numpy(case.inputs()["pixel_values"])).feature_maps
    return with_channels(case, {f"backbone_scale{index}": map_ for index, map_ in enumerate(maps, start=2)})
