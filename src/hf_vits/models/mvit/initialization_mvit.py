"""Initialisation of an MViT for clips from an MViT for images or for other clips.

facebookresearch/SlowFast, slowfast/utils/checkpoint.py (`load_checkpoint` with image_init, that is with
TRAIN.CHECKPOINT_IN_INIT).
"""

from typing import Any, Literal

import torch
from transformers import PreTrainedModel

from ...layers.inflation import inflate
from ...layers.position import SeparablePositionEmbedding, interpolate_sequence

SHARED_FIELDS = ("num_channels", "depths", "hidden_sizes", "num_attention_heads", "mlp_ratio", "hidden_act")
SHARED_FIELDS += ("position_embedding_type", "expand_in_attention", "pool_all_queries", "pool_all_keys")
SHARED_FIELDS += ("residual_pooling", "pool_first", "window_size")
# Weights that are not changed where the source model lacks them.
OWN_TO_CLIPS = ("class_token", "position_embedding.temporal", "position_embedding.prefix", "positions.tables.0")


@torch.no_grad()
def initialize_from(
    model: PreTrainedModel,
    source: PreTrainedModel,
    inflation: Literal["repeat", "central_frame", "average", "rank_pooling"] = "repeat",
) -> None:
    """Copy, in place, the weights of an MViT for images or clips into an MViT for clips.

    Position tables are resized. Temporal tables, which models of images lack, are not changed, nor are the classifier
    and a class token that the source lacks.

    Args:
        model: MViT for clips, with or without a head.
        source: MViT with or without a head; the head is not copied.
        inflation: how kernels of patches and pooling are inflated, see `layers.inflation.inflate`. The original's rule
            is "repeat", without division by the number of frames.

    Raises:
        ValueError: the models do not fit.
    """
    encoder: Any = getattr(model, "model", model)
    source_base: Any = getattr(source, "model", source)
    check_source(encoder.config, source_base.config)
    expected, is_image = encoder.state_dict(), source_base.config.num_frames is None
    state = copied_positions(encoder.embeddings.position_embedding, source_base.embeddings.position_embedding)
    for key, value in source_base.state_dict().items():
        key = clip_key(key) if is_image else key
        if key in expected and key not in state and "position_embedding." not in key:
            state[key] = fitted(key, value, expected[key].shape, inflation)
    unfit = [key for key in expected if key in state and state[key].shape != expected[key].shape]
    unfit += [key for key in expected if key not in state and not key.endswith(OWN_TO_CLIPS)]
    if unfit:
        raise ValueError(f"the model to start from does not fit: {len(unfit)} weights differ, such as {unfit[0]}")
    encoder.load_state_dict(state, strict=False)


def check_source(config, source_config) -> None:
    if config.num_frames is None:
        raise ValueError("a model of images has no other kind of model to start from: num_frames is None")
    if source_config.model_type != config.model_type:
        raise ValueError(f"expected an MViT of hf_vits to start from, got {source_config.model_type!r}")
    for name in SHARED_FIELDS:
        own, theirs = (list(v) if isinstance(v := getattr(c, name), tuple) else v for c in (config, source_config))
        if own != theirs:
            raise ValueError(f"the model to start from must have {name}={own!r}, as this one, it has {theirs!r}")


def copied_positions(target: Any, source: Any) -> dict[str, torch.Tensor]:
    """Return the source's absolute positions, resized, under their keys in the target's state dict."""
    if target is None:
        return {}
    grid, name = target.spatial.grid, "embeddings.position_embedding"
    if isinstance(source, SeparablePositionEmbedding):
        prefix, spatial = source.prefix, source.spatial(grid)
        copied = {f"{name}.temporal": interpolate_sequence(source.temporal, target.temporal.shape[1])}
    else:
        count = grid[0] * grid[1]
        table, copied = source(grid), {}
        prefix, spatial = table[:, :-count], table[:, -count:]
    if target.prefix is not None and prefix is not None and prefix.shape[1]:
        copied[f"{name}.prefix"] = prefix
    return copied | {f"{name}.spatial.table": spatial}


def clip_key(key: str) -> str:
    """Convert a key of a model for images to the key of a model for clips, whose first axis is time."""
    name, found, axis = key.partition("positions.tables.")
    return f"{name}{found}{int(axis) + 1}" if found else key


def fitted(key: str, value: torch.Tensor, shape: torch.Size, inflation: str) -> torch.Tensor:
    """Inflate a kernel or resize a table of relative positions to `shape`; return other weights unchanged."""
    if value.ndim == 4 and len(shape) == 5:
        return inflate(value, shape[2], inflation)
    return interpolate_sequence(value[None], shape[0])[0] if "positions.tables." in key else value


__all__ = ["initialize_from"]
