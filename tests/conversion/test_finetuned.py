"""Classifiers that self-supervised originals fine-tune, and EsViT's CvT with relative positions."""

import re
from functools import partial

import pytest
import timm
import torch

from benchmarks.layouts import randomise
from hf_vits import DeiTConfig, DeiTForImageClassification
from hf_vits.conversion import convert, find, to_transformers
from hf_vits.models.cvt.modeling_cvt import CvtWindowAttention
from tests.support.paths import PARITY_CASES

from ..parity.golden import Case

WINDOW = 4


def ibot_classifier(**options) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    """A tiny ViT of timm, which computes what iBOT's classifier does, and its tensors under iBOT's keys."""
    sizes = {"embed_dim": 32, "depth": 2, "num_heads": 2, "img_size": 32, "num_classes": 5, "patch_size": 8}
    model = randomise(timm.create_model("vit_tiny_patch16_224", **sizes, **options))
    return model, {re.sub(r"\.ls([12])\.gamma", r".gamma_\1", key): value for key, value in model.state_dict().items()}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"global_pool": "avg", "init_values": 0.1}, {"pooling": "mean", "layer_scale_init_value": 0.1}),
        ({"global_pool": "token"}, {"pooling": "token", "layer_scale_init_value": None}),
    ],
    ids=["mean", "token"],
)
@torch.no_grad()
def test_ibots_classifiers(options, expected):
    theirs, tensors = ibot_classifier(**options)
    ours = convert("ibot", "vit_small_patch16", {"model": tensors}, num_attention_heads=2)
    assert {field: getattr(ours.config, field) for field in expected} == expected
    pixel_values = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(ours(pixel_values).logits, theirs(pixel_values), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_an_encoder_of_ibot_with_mean_pooling():
    theirs, tensors = ibot_classifier(global_pool="avg", init_values=0.1)
    encoder = {f"backbone.{key}": value for key, value in tensors.items() if not key.startswith("head.")}
    ours = convert("ibot", "vit_small_patch16", {"state_dict": encoder}, num_attention_heads=2)
    pixel_values = torch.randn(2, 3, 32, 32)
    expected = theirs.forward_head(theirs.forward_features(pixel_values), pre_logits=True)
    torch.testing.assert_close(ours(pixel_values).pooler_output, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("own", "shared"), [(True, False), (False, True), (True, True)])
@torch.no_grad()
def test_ibots_classifiers_with_relative_positions(own, shared):
    """As in modeling_finetune.py, `use_rel_pos_bias` and `use_shared_rel_pos_bias`, without absolute positions."""
    theirs, tensors = ibot_classifier(pos_embed="none")
    tables = [f"blocks.{layer}.attn.relative_position_bias_table" for layer in range(2)] if own else []
    tables += ["rel_pos_bias.relative_position_bias_table"] if shared else []
    tensors |= {table: torch.randn(7 * 7 + 3, 2) for table in tables}
    tensors["blocks.0.attn.relative_position_index"] = torch.zeros(17, 17, dtype=torch.long)
    ours = convert("ibot", "vit_small_patch16", tensors)
    config = ours.config
    assert (config.use_relative_position_bias, config.use_shared_relative_position_bias) == (own, shared)
    assert (config.image_size, config.num_attention_heads, config.position_embedding_type) == (32, 2, "none")

    places = [divmod(patch, 4) for patch in range(16)]
    row = torch.full((17, 17), 7 * 7 + 1)  # of patches on the class token
    row[0], row[0, 0] = 7 * 7, 7 * 7 + 2
    for query, (y, x) in enumerate(places, start=1):
        for key, (other_y, other_x) in enumerate(places, start=1):
            row[query, key] = (y - other_y + 3) * 7 + x - other_x + 3
    for layer, block in enumerate(theirs.blocks):
        used = [table for table in tables if not table.startswith("blocks") or table.startswith(f"blocks.{layer}.")]
        bias = sum(tensors[table][row].permute(2, 0, 1) for table in used)
        block.attn.forward = partial(attention_with_bias, block.attn, bias)
    pixel_values = torch.randn(2, 3, 32, 32)
    expected = theirs(pixel_values)
    for implementation in ("sdpa", "eager"):
        ours.set_attn_implementation(implementation)
        torch.testing.assert_close(ours(pixel_values).logits, expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(ours(pixel_values, output_hidden_states=True).logits.argmax(1), expected.argmax(1))
    with pytest.raises(
        ValueError, match=r"use_relative_position_bias .* 17 tokens of a whole image of image_size=32, got 26 tokens"
    ):
        ours(torch.randn(2, 3, 40, 40))
    with pytest.raises(ValueError, match="misshapen"):
        convert("ibot", "vit_small_patch16", tensors, image_size=40)


def attention_with_bias(attention, bias: torch.Tensor, tokens: torch.Tensor, *arguments, **options) -> torch.Tensor:
    """Attention of timm's ViT with a bias (heads, queries, keys) on its scores."""
    query, key, value = attention.qkv(tokens).unflatten(-1, (3, 2, 16)).permute(2, 0, 3, 1, 4)
    probabilities = (query @ key.mT / 16**0.5 + bias).softmax(dim=-1)
    return attention.proj((probabilities @ value).transpose(1, 2).flatten(2))


@pytest.mark.parametrize(
    "fields",
    [{"distilled": True}, {"num_parallel_branches": 2}, {"feed_forward": "locality"}, {"patch_drop_rate": 0.5}],
)
def test_relative_positions_need_whole_images_and_one_class_token(fields):
    with pytest.raises(ValueError, match=f"^use_relative_position_bias .* plain layers: {next(iter(fields))} must be"):
        DeiTConfig(use_relative_position_bias=True, **fields)


def test_relative_positions_begin_at_zero_and_learn():
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "num_labels": 3}
    biases = {"use_relative_position_bias": True, "use_shared_relative_position_bias": True}
    model = DeiTForImageClassification(DeiTConfig(**sizes, **biases))
    tables = {key: value for key, value in model.named_parameters() if key.endswith("position_bias.table")}
    assert len(tables) == 3
    assert not any(table.any() for table in tables.values())
    model(torch.randn(2, 3, 32, 32), labels=torch.tensor([0, 1])).loss.backward()
    assert all(table.grad.abs().sum() > 0 for table in tables.values())
    with pytest.raises(ValueError, match=r"transformers has no such model: .* use_relative_position_bias=False"):
        to_transformers(model)


def test_a_classifier_is_found_as_one_of_the_supervised_system():
    fields = {"embed_dim": 16, "depths": (1, 1), "num_heads": (1, 2), "img_size": 56, "num_classes": 3}
    tensors = timm.create_model("swin_tiny_patch4_window7_224", **fields).state_dict()
    original = {key.replace("layers.1.downsample", "layers.0.downsample"): value for key, value in tensors.items()}
    original = {key.replace("head.fc.", "head."): value for key, value in original.items()}
    assert find(original)[0] == "swin"
    ours = convert("ibot", None, original)  # as iBOT's own fine-tuning saves it
    assert (type(ours).__name__, ours.config.layer_norm_eps) == ("SwinForImageClassification", 1e-6)


def cvt_with_positions() -> dict[str, torch.Tensor]:
    """EsViT's tiny CvT of a golden case with a table of relative positions in each layer, and a linear classifier."""
    case = Case.load(PARITY_CASES / "esvit/step_tiny_cvt_dense.json")
    tensors = {
        key.removeprefix("student.module."): torch.from_numpy(value)
        for key, value in case.checkpoint().items()
        if key.startswith("student.module.") and ".head" not in key
    }
    generator = torch.Generator().manual_seed(0)
    for stage, heads in enumerate(case.config["model"]["NUM_HEADS"]):
        for layer in range(2):
            place = f"stage{stage}.1.layers.{layer}.0.fn."
            tensors[f"{place}rel_pos_bias_table"] = torch.randn((2 * WINDOW - 1) ** 2, heads, generator=generator)
            tensors[f"{place}rel_pos_idx"] = torch.zeros(WINDOW**2, WINDOW**2, dtype=torch.long)
    return tensors | {"head.weight": torch.randn(5, 48), "head.bias": torch.randn(5)}


@torch.no_grad()
def test_esvits_cvt_with_relative_positions():
    tensors = cvt_with_positions()
    fields = {"patch_strides": [4, 2], "patch_paddings": [2, 1]}
    model = convert("esvit", "cvt_tiny_window7", tensors, **fields)
    config = model.config
    assert (config.window_size, config.use_relative_position_bias) == (WINDOW, True)
    assert (list(config.num_attention_heads), config.num_labels) == ([2, 4], 5)
    outputs = model(torch.randn(1, 3, 32, 32), output_hidden_states=True)
    pooled = model.model.norm(outputs.hidden_states[-1].flatten(2).transpose(1, 2)).mean(dim=1)
    expected = pooled @ tensors["head.weight"].T + tensors["head.bias"]
    torch.testing.assert_close(outputs.logits, expected, atol=1e-5, rtol=1e-5)
    encoder = {key: value for key, value in tensors.items() if not key.startswith("head.")}
    assert type(convert("esvit", "cvt_tiny_window7", encoder, **fields)).__name__ == "CvtModel"


@pytest.mark.parametrize("side", [WINDOW, 3])
@torch.no_grad()
def test_the_table_has_a_row_for_each_offset(side):
    model = convert("esvit", "cvt_tiny_window7", cvt_with_positions(), patch_strides=[4, 2], patch_paddings=[2, 1])
    attention = model.model.stages[0].layers[0].attention
    assert isinstance(attention, CvtWindowAttention)
    table, bias = attention.position_bias.table, attention.bias(side)
    places = [(row, column) for row in range(side) for column in range(side)]
    for query, (row, column) in enumerate(places):
        for key, (other_row, other_column) in enumerate(places):
            index = (row - other_row + WINDOW - 1) * (2 * WINDOW - 1) + column - other_column + WINDOW - 1
            assert torch.equal(bias[0, :, query, key], table[index])
    tokens = torch.randn(1, side * side, 24)
    shifted = attention(tokens, (side, side))[0]
    attention.position_bias.table.zero_()
    assert not torch.allclose(shifted, attention(tokens, (side, side))[0], atol=1e-3)
