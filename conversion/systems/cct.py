"""SHI-Labs/Compact-Transformers (.pth) to `CctForImageClassification` and `CctForSequenceClassification`.

Variants have the names of its factory functions (src/vit.py, src/cvt.py, src/cct.py, src/text); a text CCT whose
kernel is not the default of 4 words has the kernel in its name. Read from the file: number of classes, type and size
of the position table, vocabulary, kernel of a text model. A model trained without positions needs
`position_embedding_type="none"`, since a missing table could also mean a damaged file.
"""

import math
from collections.abc import Callable, Iterable

import torch
from transformers.core_model_loading import ConversionOps, Transpose, WeightConverter, WeightRenaming

from hf_vits.configuration import pair
from hf_vits.layers.position import SinePositionEmbedding
from hf_vits.models.cct.configuration_cct import CctConfig
from hf_vits.models.cct.configuration_cct_text import CctTextConfig
from hf_vits.models.cct.modeling_cct import CctEmbeddings, CctForImageClassification
from hf_vits.models.cct.modeling_cct_text import CctForSequenceClassification, CctTextEmbeddings

from ..shared.inference import count, found, size
from ..shared.preprocessing import resize_and_crop

# num_hidden_layers, num_attention_heads, intermediate_size over hidden_size, hidden_size
SIZES = {2: (2, 2, 1, 128), 4: (4, 2, 1, 128), 6: (6, 4, 2, 256), 7: (7, 4, 2, 256), 14: (14, 6, 3, 384)}


def encoder_fields(size: int, hidden_size: int | None = None) -> dict:
    layers, heads, ratio, default = SIZES[size]
    width = hidden_size or default
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": ratio * width,
    }


def convolution_fields(kernel_size: int) -> dict:
    """Return the fields of CCT's tokenizer, whose stride and padding follow from the kernel."""
    return {
        "kernel_size": kernel_size,
        "stride": max(1, kernel_size // 2 - 1),
        "padding": max(1, kernel_size // 2),
    }


def patch_fields(patch_size: int) -> dict:
    """Return the fields of ViT-Lite's and CVT's tokenizer, which cuts the input into patches."""
    patches = {"kernel_size": patch_size, "stride": patch_size, "padding": 0}
    return {**patches, "conv_act": None, "use_max_pool": False}


def cct(size: int, kernel_size: int, num_conv_layers: int, image_size: int = 32, num_labels: int = 10) -> dict:
    more = {"num_conv_layers": num_conv_layers, "image_size": image_size, "num_labels": num_labels}
    return encoder_fields(size) | convolution_fields(kernel_size) | more


def patches(size: int, pooling: str) -> dict:
    more = {"num_conv_layers": 1, "conv_bias": True, "image_size": 32, "num_labels": 10, "pooling": pooling}
    return encoder_fields(size) | patch_fields(4) | more


def text(size: int, tokenizer: dict, pooling: str, hidden_size: int | None = None) -> dict:
    return encoder_fields(size, hidden_size) | {"use_convolution": True, "pooling": pooling} | tokenizer


def with_sine(variants: dict[str, dict]) -> dict[str, dict]:
    """Return the variants, whose position table is learned, and each with a sinusoid under its name and `_sine`."""
    sine = {"position_embedding_type": "sine"}
    return variants | {f"{name}_sine": fields | sine for name, fields in variants.items()}


VARIANTS = {
    **with_sine({f"vit_{size}_4_32": patches(size, "token") for size in (2, 4, 6, 7)}),
    **with_sine({f"cvt_{size}_4_32": patches(size, "sequence") for size in (2, 4, 6, 7)}),
    **with_sine({f"cct_{size}_3x2_32": cct(size, 3, 2) for size in (2, 4, 6, 7)}),
    **with_sine({f"cct_{size}_3x1_32": cct(size, 3, 1) for size in (6, 7)}),
    "cct_7_3x1_32_c100": cct(7, 3, 1, num_labels=100),
    "cct_7_3x1_32_sine_c100": cct(7, 3, 1, num_labels=100) | {"position_embedding_type": "sine"},
    **with_sine({"cct_7_7x2_224": cct(7, 7, 2, image_size=224, num_labels=102)}),
    "cct_14_7x2_224": cct(14, 7, 2, image_size=224, num_labels=1000),
    "cct_14_7x2_384": cct(14, 7, 2, image_size=384, num_labels=1000),
    "cct_14_7x2_384_fl": cct(14, 7, 2, image_size=384, num_labels=102),
    **{
        f"text_transformer_{size}": text(size, {"use_convolution": False}, "token", hidden_size=300)
        for size in (2, 4, 6)
    },
    **{f"text_vit_{size}": text(size, patch_fields(4), "token") for size in (2, 4, 6)},
    **{f"text_cvt_{size}": text(size, patch_fields(4), "sequence", hidden_size=128) for size in (2, 4, 6)},
    **{f"text_cct_{size}": text(size, convolution_fields(4), "sequence") for size in (2, 4, 6)},
    **{f"text_cct_{size}_k{k}": text(size, convolution_fields(k), "sequence") for size in (2, 4, 6) for k in (1, 2)},
}

# configs/datasets: mean, standard deviation, crop ratio
DATASETS = {
    "cifar10": ([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616], 1.0),
    "cifar100": ([0.5071, 0.4867, 0.4408], [0.2675, 0.2565, 0.2761], 1.0),
    "flowers102": ([0.4353, 0.3773, 0.2872], [0.2966, 0.2455, 0.2698], 1.0),
    "imagenet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225], 0.9),
}


def is_text(fields: dict) -> bool:
    return "use_convolution" in fields


def model_class(fields: dict) -> type[CctForImageClassification] | type[CctForSequenceClassification]:
    return CctForSequenceClassification if is_text(fields) else CctForImageClassification


def prepare(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    """Return the tensors unchanged; ValueError if one that sizes are read from has another number of axes."""
    for key, num_axes in {"classifier.positional_emb": 3, "tokenizer.conv_layers.0.weight": 4}.items():
        if key in tensors and (tensors[key].ndim != num_axes or not tensors[key].numel()):
            raise ValueError(
                f"the checkpoint does not fit: {key} must have {num_axes} axes, none of them empty, found shape "
                f"{tuple(tensors[key].shape)}"
            )
    return tensors


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    inferred = infer_encoder(tensors)
    if "classifier.fc.bias" in tensors:
        inferred["num_labels"] = tensors["classifier.fc.bias"].numel()
    inferred |= infer_words(tensors, fields) if is_text(fields) else infer_convolutions(tensors)
    table = tensors.get("classifier.positional_emb")
    if table is None:
        return inferred  # loading reports it as missing, unless the model has no positions
    inferred["position_embedding_type"] = "sine" if is_sine(table, num_zero_rows=int(is_text(fields))) else "learned"
    size_of = text_size if is_text(fields) else image_size
    return inferred | size_of(table.shape[1], fields | inferred)


def infer_encoder(tensors: dict[str, torch.Tensor]) -> dict:
    return found(
        hidden_size=size(tensors, "classifier.norm.weight", 0, 1),
        num_hidden_layers=count(tensors, "classifier.blocks."),
        intermediate_size=size(tensors, "classifier.blocks.0.linear1.weight", 0, 2),
    )


def infer_convolutions(tensors: dict[str, torch.Tensor]) -> dict:
    """Return the fields of an image model's tokenizer that tensors record; its strides and padding leave no trace."""
    number, first = count(tensors, "tokenizer.conv_layers."), "tokenizer.conv_layers.0.0."
    return found(
        num_conv_layers=number,
        conv_hidden_size=size(tensors, f"{first}weight", 0, 4) if number and number > 1 else None,
        num_channels=size(tensors, f"{first}weight", 1, 4),
    )


def infer_words(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    inferred = {}
    table, weight = tensors.get("embedder.embeddings.weight"), tensors.get("tokenizer.conv_layers.0.weight")
    if table is not None and table.ndim == 2 and table.numel():
        inferred |= {"vocab_size": len(table), "word_embedding_size": table.shape[1]}
    if fields["use_convolution"] and weight is not None:
        is_cct = fields.get("use_max_pool", True)
        inferred |= convolution_fields(weight.shape[2]) if is_cct else patch_fields(weight.shape[2])
    return inferred


def is_sine(table: torch.Tensor, num_zero_rows: int) -> bool:
    """Return whether a position table is the sinusoid, whatever the variant's name.

    The original's factory functions `_sine` of CVT and CCT drop their argument and build a learned table, but the
    checkpoints published under these names contain the sinusoid.
    """
    sinusoid = SinePositionEmbedding(table.shape[1], table.shape[2], num_zero_rows).table
    return torch.allclose(table.float(), sinusoid, rtol=0, atol=1e-2)


def image_size(num_positions: int, fields: dict) -> dict:
    """Return the image size for a table with `num_positions` rows: the variant's if it fits, else the largest."""
    with torch.device("meta"):
        embeddings = CctEmbeddings(CctConfig(**fields | {"position_embedding_type": "none"}))
    side = math.isqrt(max(0, num_positions - int(fields.get("pooling") == "token")))
    sizes = (fields["image_size"], *range(4096, 0, -1))
    return first_fitting("image_size", sizes, lambda pixels: embeddings.grid(*pair(pixels)) == (side, side))


def text_size(num_positions: int, fields: dict) -> dict:
    """Return the number of words for a table with `num_positions` rows: the variant's if it fits, else the fewest."""
    config = CctTextConfig(**fields | {"position_embedding_type": "none"})
    with torch.device("meta"):
        embeddings = CctTextEmbeddings(config)
    wanted = num_positions - 1 - config.num_prefix_tokens
    sizes = (config.max_position_embeddings, *range(1, 4097))
    return first_fitting("max_position_embeddings", sizes, lambda words: embeddings.count(words) == wanted)


def first_fitting(name: str, sizes: Iterable, fits: Callable[..., bool]) -> dict:
    """Return {name: the first of `sizes` that fits}, {} if none does; a size that raises ValueError does not fit."""
    for value in sizes:
        try:
            if fits(value):
                return {name: value}
        except ValueError:
            continue
    return {}


class FitSineTable(ConversionOps):
    """Cut or extend the sinusoid if the model has another input size than the file."""

    def convert(self, input_dict, source_patterns, target_patterns, model, **kwargs):
        (table,) = next(iter(input_dict.values()))
        embedding = model.model.embeddings.position_embedding
        num_positions = embedding.table.shape[1]
        if table.shape[::2] == (1, embedding.hidden_size):
            more = embedding.make_table(max(num_positions, table.shape[1]))[:, table.shape[1] :]
            table = torch.cat([table.float(), more], dim=1)[:, :num_positions]
        return {target_patterns[0]: table}

    @property
    def reverse_op(self) -> ConversionOps:
        return self


def transforms(config: CctConfig | CctTextConfig) -> list:
    """Return the transforms to our keys; they can be reversed."""
    is_text_model = isinstance(config, CctTextConfig)
    tokenizer, table = "model.embeddings.tokenizer.layers.", "model.embeddings.position_embedding.table"
    renamings = {
        r"^classifier\.class_emb": "model.embeddings.prefix_tokens",
        r"^classifier\.positional_emb": table,
        r"^classifier\.blocks\.": "model.layers.",
        r"\.pre_norm\.": ".attention_norm.",
        r"\.self_attn\.qkv\.": ".attention.qkv.",
        r"\.self_attn\.proj\.": ".attention.projection.",
        r"\.norm1\.": ".mlp_norm.",
        r"\.linear1\.": ".mlp.up.",
        r"\.linear2\.": ".mlp.down.",
        r"^classifier\.norm\.": "model.norm.",
        r"^classifier\.attention_pool\.": "model.pooler.score.",
        r"^classifier\.fc\.": "classifier.",
        r"^embedder\.embeddings\.": "model.embeddings.word_embeddings.",
        r"^tokenizer\.conv_layers\.": tokenizer + "0." if is_text_model else tokenizer,
    }
    converters = []
    if config.position_embedding_type == "sine":
        converters.append(WeightConverter(table, table, [FitSineTable()]))
    if is_text_model:
        # The original convolves an image of words x vector, kernel (hidden_size, 1, words, vector); our channels are
        # the vector.
        converters.append(WeightConverter(f"{tokenizer}0.0.weight", f"{tokenizer}0.0.weight", [Transpose(1, 3)]))
    return [*(WeightRenaming(old, new) for old, new in renamings.items()), *converters]


def dataset(variant: str) -> str:
    """Return the name of the data set that an image variant was trained on, or that the original's script uses."""
    if variant.endswith("_c100"):
        return "cifar100"
    if "_224" in variant or "_384" in variant:
        return "imagenet" if variant.startswith("cct_14") and not variant.endswith("_fl") else "flowers102"
    return "cifar10"


def processor(variant: str, config: CctConfig | CctTextConfig) -> dict | None:
    """Return the preprocessing of configs/datasets: short side to size / crop ratio, bicubic; centre crop."""
    if isinstance(config, CctTextConfig):
        return None
    mean, std, crop_ratio = DATASETS[dataset(variant)]
    return resize_and_crop(config.image_size, crop_ratio, mean, std)
