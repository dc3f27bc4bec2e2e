"""Checkpoints of moabarar/qna: training states of Flax."""

import math
import re

import torch
from torch import nn
from transformers.core_model_loading import WeightRenaming

from hf_vits.models.qna.configuration_qna import QnaConfig
from hf_vits.models.qna.modeling_qna import QnaForImageClassification, pooling_size

from ..shared.flax import torch_layout
from ..shared.inference import found, num_labels, ratio, size
from ..shared.preprocessing import resize_and_crop

TINY = {
    "depths": [2, 3, 6, 2],
    "window_depths": [0, 0, 4, 2],
    "num_labels": 1000,
}
SMALL = {**TINY, "depths": [2, 3, 18, 2], "window_depths": [0, 0, 12, 2], "drop_path_rate": 0.2}
VARIANTS = {
    "qna_vit_tiny": TINY,
    "qna_vit_tiny_7x7": {**TINY, "kernel_sizes": [7, 7, 7, 7]},
    "qna_vit_small": SMALL,
    "qna_vit_base": {
        **SMALL,
        "hidden_sizes": [96, 192, 384, 768],
        "num_attention_heads": [3, 6, 12, 24],
        "num_query_heads": [6, 12, 24, 48],
        "drop_path_rate": 0.5,
    },
}

STAGE = re.compile(r"(LSA|QnA)Stage_(\d+)/")


def model_class(fields: dict) -> type[QnaForImageClassification]:
    return QnaForImageClassification


def prepare(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    """Convert to torch's layout and resize tables to the model's windows and kernels.

    The original resizes them likewise for fine-tuning (utils.py, `init_from_pretrained`), but pairs tables by order.
    """
    config = QnaConfig(**{name: fields[name] for name in fields.keys() & QnaConfig.__dataclass_fields__.keys()})
    prepared = torch_layout({our_key(key): our_tensor(key, tensors, config) for key in tensors})
    if "StemBlock_0.BatchNorm_0.mean" in prepared:
        prepared["StemBlock_0.BatchNorm_0.num_batches_tracked"] = torch.tensor(0)
    return prepared


def infer_original(tensors: dict[str, torch.Tensor]) -> dict:
    """Return windows and kernels, from the tables of the first layer of each kind in every stage.

    A stage without such a layer, whose value is not used, gets the default.
    """
    windows, kernels = list(QnaConfig.window_sizes), list(QnaConfig.kernel_sizes)
    for key in sorted(tensors, reverse=True):
        stage, rows = STAGE.search(key), size(tensors, key, -2)
        if stage is None or not key.endswith("/rpe_bias") or not rows or int(stage[2]) >= len(windows):
            continue
        sizes, side = (windows, (math.isqrt(rows) + 1) // 2) if stage[1] == "LSA" else (kernels, math.isqrt(rows))
        sizes[int(stage[2])] = side
    return {"window_sizes": windows, "kernel_sizes": kernels}


def our_key(key: str) -> str:
    """Return the key, with the projection to keys, a bare matrix and bias, named as a dense layer."""
    return re.sub(r"/Wk$", "/to_k/kernel", re.sub(r"/Wk_b$", "/to_k/bias", key))


def our_tensor(key: str, tensors: dict[str, torch.Tensor], config: QnaConfig) -> torch.Tensor:
    """Return a tensor in the layout of our model; ValueError if its shape does not allow it."""
    try:
        return relaid(key, tensors, config)
    except (RuntimeError, IndexError, TypeError, ZeroDivisionError) as error:
        raise ValueError(
            f"the checkpoint does not fit: {key} {tuple(tensors[key].shape)} cannot become a tensor of "
            f"{QnaForImageClassification.__name__}: {error}. Is it of another variant or architecture?"
        ) from error


def relaid(key: str, tensors: dict[str, torch.Tensor], config: QnaConfig) -> torch.Tensor:
    parent, _, leaf = key.rpartition("/")
    tensor, queries = tensors[key], tensors.get(f"{parent}/query")
    if leaf in ("rpe_bias", "attn_scale_weights", "attn_scale_pos") and queries is not None:
        return query_table(tensor, len(queries), table_size(key, config))
    if leaf == "rpe_bias":
        return resize_table(tensor, table_size(key, config))
    if key.endswith("/to_qkv/kernel"):
        return separate_heads(tensor, config.num_attention_heads[int(STAGE.match(key)[2])])
    return tensor


def table_size(key: str, config: QnaConfig) -> tuple[int, int]:
    """Return (rows, columns) of the positions of the model's table for this key."""
    stage = STAGE.match(key)
    if stage is None:
        return pooling_size(config)
    index = int(stage[2])
    side = 2 * config.window_sizes[index] - 1 if stage[1] == "LSA" else config.kernel_sizes[index]
    return side, side


def resize_table(table: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize (side * side, channels) to (rows * columns, channels), as jax.image.resize does with "bicubic"."""
    side = math.isqrt(len(table))
    if (side, side) == size:
        return table
    grid = table.float().t().reshape(1, -1, side, side)
    grid = nn.functional.interpolate(grid, size=size, mode="bicubic", align_corners=False, antialias=True)
    return grid[0].flatten(1).t()


def query_table(table: torch.Tensor, num_queries: int, size: tuple[int, int]) -> torch.Tensor:
    """Convert ([1, 1,] positions, queries * heads) to (queries, heads, rows, columns); one position stays one."""
    table = table.reshape(table.shape[-2 if table.ndim < 5 else -3], -1)
    if len(table) == 1:
        size = (1, 1)
    return resize_table(table, size).t().reshape(num_queries, -1, *size)


def separate_heads(kernel: torch.Tensor, num_heads: int) -> torch.Tensor:
    """Reorder (in, heads * 3 * head_dim), head by head, to (in, 3 * heads * head_dim)."""
    return kernel.unflatten(1, (num_heads, 3, -1)).transpose(1, 2).flatten(1)


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    head = "ClassificationHead_0.head_logits.bias"
    queries = next((key for key in tensors if re.match(r"QnAStage_\d+\..*\.query$", key)), "")
    mlp = next((key for key in tensors if key.endswith("_Block_1.MlpBlock_0.Dense_0.weight")), "")
    return found(
        num_labels=num_labels(tensors, head),
        stem_type="resnet" if "StemBlock_0.conv_7x7.weight" in tensors else "patch",
        shortcut_type="average" if any(".AvgPool1x1Conv_0." in key for key in tensors) else "convolution",
        num_queries=size(tensors, queries, 0, 2),
        mlp_ratio=ratio(size(tensors, mlp, 0, 2), size(tensors, mlp, 1, 2)),
    )


def transforms(config: QnaConfig) -> list:
    renamings = {
        r"^StemBlock_0\.conv_\dx\d\.": "model.embeddings.projection.0.",
        r"^StemBlock_0\.BatchNorm_0\.mean$": "model.embeddings.projection.1.running_mean",
        r"^StemBlock_0\.BatchNorm_0\.var$": "model.embeddings.projection.1.running_var",
        r"^StemBlock_0\.BatchNorm_0\.": "model.embeddings.projection.1.",
        r"^ClassificationHead_0\.LayerNorm_0\.": "model.norm.",
        r"^ClassificationHead_0\.FusedKQnA_0\.": "model.pooler.",
        r"^ClassificationHead_0\.head_logits\.": "classifier.",
        **layer_names(config),
        r"\.LayerNorm_0\.": ".attention_norm.",
        r"\.LayerNorm_1\.": ".mlp_norm.",
        r"\.LayerScale_0\.scale_param$": ".attention_scale.gamma",
        r"\.LayerScale_1\.scale_param$": ".mlp_scale.gamma",
        r"\.MlpBlock_0\.Dense_0\.": ".mlp.up.",
        r"\.MlpBlock_0\.Dense_1\.": ".mlp.down.",
        r"\.AvgPool1x1Conv_0\.Conv_0\.": ".shortcut.projection.",
        r"\.Conv_0\.": ".shortcut.projection.",
        r"\.MultiHeadSelfAttention_0\.": ".attention.",
        r"\.RelativePositionalEmbedding_0\.rpe_bias$": ".position_bias.table",
        r"\.FusedKQnA_0\.": ".attention.",
        r"\.rpe_bias$": ".position_bias",
        r"\.attn_scale_(?:weights|pos)$": ".attention_scale",
        r"\.query$": ".queries",
        r"\.to_qkv\.": ".qkv.",
        r"\.to_k\.": ".key.",
        r"\.to_v\.": ".value.",
        r"\.to_out\.": ".projection.",
    }
    return [WeightRenaming(old, new) for old, new in renamings.items()]


def layer_names(config: QnaConfig) -> dict[str, str]:
    """Return {pattern: our name} of the layers. The original counts from 1, and a stage ends with downsampling."""
    names = {}
    for stage, (depth, window_depth) in enumerate(zip(config.depths, config.window_depths, strict=True)):
        ours = f"model.stages.{stage}"
        for layer in range(window_depth):
            names[rf"^LSAStage_{stage}\.MSA_Block_{layer + 1}\."] = f"{ours}.layers.{layer}."
        for layer in range(depth - window_depth):
            names[rf"^QnAStage_{stage}\.QnA_Block_{layer + 1}\."] = f"{ours}.layers.{window_depth + layer}."
        names[rf"^QnAStage_{stage}\.QnA_Block_\d+_stride_2\."] = f"model.stages.{stage + 1}.downsampling."
    return names


def processor(variant: str, config: QnaConfig) -> dict:
    """Return the preprocessing of data/imagenet_utils.py: centre crop of 224 / (224 + 32), resized; bicubic."""
    size = config.image_size
    side = size if isinstance(size, int) else min(size)
    return resize_and_crop(size, side / (side + 32))
