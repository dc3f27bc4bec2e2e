"""Starting an MViT of clips from one of images, or of other clips.

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
SHARED_FIELDS += ("residual_pooling", "window_size")
# What stays as it is where the other model has no such thing.
OWN_TO_CLIPS = ("class_token", "position_embedding.temporal", "position_embedding.prefix", "positions.tables.0")


@torch.no_grad()
def initialize_from(
    model: PreTrainedModel,
    source: PreTrainedModel,
    inflation: Literal["repeat", "central_frame", "average", "rank_pooling"] = "repeat",
) -> None:
    """Take over, in place, the weights of an MViT of images or of clips, into one of clips.

    Position tables are resized as for another input. Those along time, which images lack, stay as they are, as do the
    classifier and a class token that the other model has not.

    Args:
        source: with or without a head, which is left out.
        inflation: how kernels of images, of patches and of pooling, get a time axis, see `layers.inflation.inflate`.
            "repeat" is what the original does, without dividing by the frames.

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
    """Absolute positions, by their keys in the state of the model of clips."""
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
    """A key of a model of images as that of clips, whose first axis is time."""
    name, found, axis = key.partition("positions.tables.")
    return f"{name}{found}{int(axis) + 1}" if found else key


def fitted(key: str, value: torch.Tensor, shape: torch.Size, inflation: str) -> torch.Tensor:
    """A kernel with a time axis, a table of relative positions with as many rows, all else as it is."""
    if value.ndim == 4 and len(shape) == 5:
        return inflate(value, shape[2], inflation)
    return interpolate_sequence(value[None], shape[0])[0] if "positions.tables." in key else value


__all__ = ["initialize_from"]
