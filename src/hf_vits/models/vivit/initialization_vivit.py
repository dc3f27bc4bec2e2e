"""Initialisation of a ViViT from a trained image model, or from a ViViT for other clips.

Arnab et al., "ViViT: A Video Vision Transformer", arXiv 2103.15691, section 3.4; google-research/scenic,
projects/vivit/model_utils.py (`initialise_from_train_state`).
"""

import math
from typing import Any, Literal

import torch
from transformers import PreTrainedModel

from ...configuration import pair
from ...layers.inflation import inflate
from ...layers.position import PositionEmbedding, interpolate_positions
from .attention_vivit import space_time_attention_state, time_attention_state

IMAGE_MODELS = ("hf_vits_vit", "hf_vits_deit")
SHARED_FIELDS = ("num_channels", "hidden_size", "num_attention_heads", "intermediate_size", "num_hidden_layers")
SHARED_FIELDS += ("qkv_bias", "hidden_act", "layer_norm_eps")


@torch.no_grad()
def initialize_from(
    model: PreTrainedModel,
    source: PreTrainedModel,
    inflation: Literal["central_frame", "average", "repeat", "rank_pooling"] = "central_frame",
    positions: Literal["tile", "resize", "resize_tile"] | None = None,
    temporal_attention: Literal["copy", "zero"] = "copy",
) -> None:
    """Copy, in place, the weights of a ViT or DeiT of hf_vits, or of a ViViT of the same `attention_type`.

    Not changed are the classifier and, in a factorised encoder, the encoder over the frames and, as in the original,
    the class token. In factorised self-attention both attentions are copied from the image model; the norm before the
    attention across frames is not changed.

    Args:
        model: ViViT with or without a head.
        source: model with or without a head; the head is not copied.
        inflation: how kernels of patches are inflated to tubelets, see `layers.inflation.inflate`.
        positions: how a position table of another size is changed. "tile" repeats it for every frame; "resize" resizes
            it as one square grid of all tokens; "resize_tile" resizes it to the tokens of a frame and repeats that.
            For a factorised encoder, whose table is for one frame, the original's "resize_tile" still divides by the
            number of frames. None: "resize" for a factorised encoder, "resize_tile" for the others; between two
            ViViTs, resize along height, width and time.
        temporal_attention: initialisation of the attention across frames in factorised self-attention: "copy" as the
            original's code; "zero" as the paper, so that it adds nothing at first.

    Raises:
        ValueError: the models do not fit.
    """
    encoder, source_base = getattr(model, "model", model), getattr(source, "model", source)
    check_source(model.config, source_base.config)
    if source_base.config.model_type in IMAGE_MODELS:
        copy_image_model(encoder, source_base, inflation, positions, temporal_attention)
    else:
        copy_clip_model(encoder, source_base, positions)


def check_source(config, source_config) -> None:
    if source_config.model_type not in (*IMAGE_MODELS, config.model_type):
        raise ValueError(f"expected a ViT, DeiT or ViViT of hf_vits to start from, got {source_config.model_type!r}")
    required = {name: getattr(config, name) for name in SHARED_FIELDS}
    if source_config.model_type in IMAGE_MODELS:
        required |= {"layer_scale_init_value": None, "stem_depths": None, "num_parallel_branches": 1, "stem": "patch"}
        required |= {"feed_forward": "mlp"}
        if config.representation_size is not None and source_config.representation_size is not None:
            required |= {"representation_size": config.representation_size}
    else:
        required |= {"attention_type": config.attention_type, "tubelet_size": list(config.tubelet_size)}
        required |= {"num_temporal_layers": config.num_temporal_layers}
    for name, value in required.items():
        theirs = getattr(source_config, name, value)
        if (list(theirs) if isinstance(theirs, tuple) else theirs) != value:
            raise ValueError(f"the model to start from must have {name}={value!r}, as this one, it has {theirs!r}")
    patch_size = pair(getattr(source_config, "patch_size", config.tubelet_size[1:]))
    if patch_size != tuple(config.tubelet_size[1:]):
        raise ValueError(
            f"patches of {patch_size[0]}x{patch_size[1]} pixels cannot become tubelets of tubelet_size="
            f"{tuple(config.tubelet_size)}: height and width must be those of the patches"
        )


def copy_image_model(model: Any, source: Any, inflation: str, positions: str | None, temporal_attention: str) -> None:
    config, encoder = model.config, model.encoder
    target = model.embeddings.tubelet_embedding.projection
    patches = source.embeddings.patch_embedding.projection
    target.weight.copy_(inflate(patches.weight, target.kernel_size[0], inflation))
    target.bias.copy_(patches.bias)
    has_class_token, prefix_tokens = source.config.use_class_token, source.embeddings.prefix_tokens
    if config.attention_type == "spacetime" and encoder.class_token is not None and has_class_token:
        encoder.class_token.copy_(prefix_tokens[:, :1])
    table = source.embeddings.position_embedding
    if table is not None:
        grid = source.embeddings.grid(*pair(source.config.image_size))
        if positions is None:
            positions = "resize" if config.attention_type == "factorized_encoder" else "resize_tile"
        fill_positions(encoder.position_embedding, table(grid), grid, model.embeddings.grid[0], positions)
    for layer, source_layer in zip(encoder.layers, source.layers, strict=True):
        state = layer_state(source_layer.state_dict(), config)
        if config.attention_type == "factorized_self_attention" and temporal_attention == "zero":
            state |= {key: value.zero_() for key, value in state.items() if key.startswith("time_attention.")}
        layer.load_state_dict(state, strict=False)  # the norm before the attention across frames has no source
    encoder.norm.load_state_dict(source.norm.state_dict())
    ours, theirs = (getattr(base.pooler, "representation", None) for base in (model, source))
    if ours is not None and theirs is not None:
        ours.load_state_dict(theirs.state_dict())


def layer_state(state: dict[str, torch.Tensor], config) -> dict[str, torch.Tensor]:
    """Convert the state dict of an image model's layer to one of a ViViT layer; no tensors share memory."""
    if config.attention_type in ("spacetime", "factorized_encoder"):
        return state
    attention = {key.removeprefix("attention."): value for key, value in state.items() if key.startswith("attention.")}
    others = {key: value for key, value in state.items() if not key.startswith("attention.")}
    if config.attention_type == "factorized_dot_product":
        halves = space_time_attention_state(attention, config.num_attention_heads)
        return others | {f"attention.{key}": value for key, value in halves.items()}
    across = time_attention_state(attention, config.num_attention_heads)
    return {
        **{key.replace("attention_norm.", "space_norm."): value for key, value in others.items()},
        **{f"space_attention.{key}": value for key, value in attention.items()},
        **{f"time_attention.{key}": value.clone() for key, value in across.items()},
    }


def fill_positions(
    target: PositionEmbedding, table: torch.Tensor, grid: tuple[int, ...], frames: int, rule: str
) -> None:
    """Fill a position table from another; the class token's row is not changed where the other table has none.

    Args:
        target: the table to fill.
        table: (1, prefix + prod(grid), hidden_size), of tokens on `grid`.
        frames: number of frames of tokens in a clip.
        rule: `positions` of `initialize_from`.
    """
    count, num_source = math.prod(target.grid), math.prod(grid)
    prefix, rows = table[:, : table.shape[1] - num_source], table[:, -num_source:]
    if num_source != count:
        rows = change_positions(rows, grid, target, frames, rule)
    if rows.shape[1] != count:
        raise ValueError(
            f'positions="{rule}" makes a table of {rows.shape[1]} rows out of {num_source}, but {count} are needed'
        )
    target.table[:, -count:].copy_(rows)
    if target.table.shape[1] > count and prefix.shape[1]:
        target.table[:, :1].copy_(prefix[:, :1])


def change_positions(
    rows: torch.Tensor, grid: tuple[int, ...], target: PositionEmbedding, frames: int, rule: str
) -> torch.Tensor:
    """Change rows (1, prod(grid), hidden_size) by one of the original's rules."""
    if rule not in ("tile", "resize", "resize_tile"):
        raise ValueError(f"positions must be tile, resize or resize_tile, got {rule!r}")
    count = math.prod(target.grid)
    if rule != "tile":
        size = count if rule == "resize" else count // frames
        new_grid = plane(size, target.grid[-2:])
        rows = interpolate_positions(rows, plane(rows.shape[1], grid), new_grid, "bilinear_aligned")
    return rows if rule == "resize" else rows.repeat(1, max(count // rows.shape[1], 1), 1)


def plane(count: int, grid: tuple[int, ...]) -> tuple[int, int]:
    """Return `grid` if it has two axes and `count` tokens, otherwise the (height, width) of a square."""
    if len(grid) == 2 and math.prod(grid) == count:
        return grid
    side = math.isqrt(count)
    if side * side != count:
        raise ValueError(f"the original's rules resize squares of tokens, and {count} tokens make none")
    return side, side


def copy_clip_model(model: Any, source: Any, positions: str | None) -> None:
    """Copy all weights that both models have from a ViViT; position tables are resized."""
    names = ("encoder",) if model.temporal_encoder is None else ("encoder", "temporal_encoder")
    for name in names:
        target, table = getattr(model, name).position_embedding, getattr(source, name).position_embedding
        if positions is None or name == "temporal_encoder":
            fill_positions(target, table(target.grid), target.grid, frames=1, rule="resize")
        else:
            fill_positions(target, table.table, table.grid, model.embeddings.grid[0], positions)
    expected = model.state_dict().keys()
    state = {
        key: value
        for key, value in source.state_dict().items()
        if key in expected and "position_embedding." not in key
    }
    model.load_state_dict(state, strict=False)
