"""Golden cases of facebookresearch/mvit and SlowFast, and of detectron2's backbones."""

import re
from itertools import pairwise

import torch
from torch import nn

from hf_vits.conversion import convert
from hf_vits.layers.convolution import to_tokens
from hf_vits.models.mvit.modeling_mvit import MvitModel

from .golden import Case
from .record import with_channels


def compute(case: Case) -> dict[str, torch.Tensor]:
    pixel_values = torch.from_numpy(case.inputs()["pixel_values"])
    is_clip = pixel_values.ndim == 5
    if is_clip:
        pixel_values = pixel_values.transpose(1, 2)  # the original takes channels before frames
    variant = "mvitv2_s_16x4_k400" if is_clip else "mvitv2_t_in1k"
    model = convert("mvit", variant, case.checkpoint(), **overrides(case.config, is_clip))
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


def overrides(config: dict, is_clip: bool) -> dict:
    """What a case says of its network; the checkpoint tells the rest."""
    fields = config["MVIT"]
    bounds = [0, *(start for start, _ in fields["DIM_MUL"]), fields["DEPTH"]]
    depths, kernel = [end - start for start, end in pairwise(bounds)], fields["POOL_KVQ_KERNEL"]
    return {
        "depths": depths,
        "hidden_sizes": [fields["EMBED_DIM"] << stage for stage in range(len(depths))],
        "num_attention_heads": [fields["NUM_HEADS"] << stage for stage in range(len(depths))],
        "patch_size": fields["PATCH_KERNEL"],
        "patch_stride": fields["PATCH_STRIDE"],
        "mlp_ratio": fields["MLP_RATIO"],
        "pooling_kernel_size": kernel if kernel is None or is_clip else kernel[-2:],
        "use_class_token": fields["CLS_EMBED_ON"],
        "position_embedding_type": "absolute" if fields["USE_ABS_POS"] else "relative",
        "residual_pooling": fields["RESIDUAL_POOLING"],
        "image_size": config["crop_size"],
        "num_frames": config["num_frames"] if is_clip else None,
    }


def record_tokens(encoder: MvitModel) -> dict[str, torch.Tensor]:
    """A dict that fills with the tokens of patches, before anything is added, and after every layer."""
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
    size = re.search("mvitv2_(.)", case.config["config"])[1]
    backbone = convert("mvit", f"mvitv2_{size}_in1k", case.checkpoint())
    maps = backbone(torch.from_numpy(case.inputs()["pixel_values"])).feature_maps
    return with_channels(case, {f"backbone_scale{index}": map_ for index, map_ in enumerate(maps, start=2)})
