"""Classifiers that self-supervised originals fine-tune, and EsViT's CvT with relative positions."""

import re

import pytest
import timm
import torch

from benchmarks.layouts import randomise
from hf_vits.conversion import convert, find
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


def test_beits_relative_positions_are_refused():
    _, tensors = ibot_classifier()
    tensors["blocks.0.attn.relative_position_bias_table"] = torch.zeros(52, 2)
    with pytest.raises(ValueError, match="BEiT's relative position bias"):
        convert("ibot", "vit_small_patch16", tensors)


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
