"""Checkpoints in the layouts of timm, torchvision and transformers: our models compute what theirs do."""

import re

import pytest
import torch

from benchmarks.layouts import TOLERANCE, Case, cases, compare
from hf_vits.conversion import convert, find
from hf_vits.conversion.core import SYSTEMS, layouts_of

SMALL = [
    "timm vit_tiny_patch16_224",
    "timm vit_tiny_r_s16_p8_224",
    "timm test_vit",
    "timm vit_medium_patch16_gap_240",
    "timm vit_base_patch32_siglip_256",
    "timm flexivit_small",
    "timm deit3_small_patch16_224",
    "timm deit_tiny_distilled_patch16_224",
    "timm levit_conv_128s",
    "timm mvitv2_tiny",
    "timm swin_tiny_patch4_window7_224",
    "timm tnt_s_patch16_224",
    "timm tnt_s_legacy_patch16_224",
    "torchvision swin_t",
    "transformers vit-tiny-patch16-224",
    "transformers vit-msn-small",
    "transformers deit-tiny-distilled-patch16-224",
    "transformers levit-128s",
    "transformers cvt-13",
    "transformers swin-tiny-patch4-window7-224",
    "transformers pvt-tiny-224",
]
CASES = {case.name: case for case in cases()}


@pytest.mark.parametrize("name", SMALL)
def test_logits_equal_the_librarys(name):
    row = compare(CASES[name])
    assert row["result"] == "equal", row
    assert row["difference"] < TOLERANCE


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("timm mvitv2_small_cls", "adds the pooled query to the class token"),
        ("timm levit_384_s8", "stem has a stride of 8"),
        ("timm vit_base_patch16_rpn_224", "normalise after"),
        ("timm vit_base_patch32_clip_224", "before the first layer, as CLIP"),
        ("timm vit_wee_patch16_reg1_gap_256", "register tokens"),
        ("timm swin_s3_tiny_224", "windows of different sizes"),
        ("torchvision swin_v2_t", "Swin V2"),
    ],
)
def test_other_functions_are_refused_with_the_reason(name, reason):
    case: Case = CASES[name]
    with torch.device("meta"):
        tensors = case.make(True).state_dict()
    layout = next(layout for layout in layouts_of(case.system) if layout.recognises(tensors))
    with pytest.raises(ValueError, match=rf"{layout.library}'s .*hf_vits has no such model: .*{re.escape(reason)}"):
        layout.check(tensors)


@pytest.mark.parametrize("system", [system for system in SYSTEMS if layouts_of(system)])
def test_every_variant_of_a_layout_makes_a_configuration(system):
    for layout in layouts_of(system):
        for name, fields in layout.VARIANTS.items():
            config = layout.model_class(fields).config_class(**fields)
            assert getattr(config, next(iter(fields))) == next(iter(fields.values())), name


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"in_chans": 1}, {"num_channels": 1, "num_attention_heads": 3}),
        ({"embed_dim": 128, "num_heads": 2}, {"hidden_size": 128, "num_attention_heads": 2}),
        ({"depth": 1, "num_classes": 7}, {"num_hidden_layers": 1, "num_labels": 7}),
        ({"img_size": 96, "qkv_bias": False}, {"image_size": 96, "qkv_bias": False}),
    ],
    ids=str,
)
def test_a_deit_of_ones_own_needs_no_variant(change, expected):
    import timm

    options = {"depth": 2, "img_size": 64} | change
    theirs = timm.create_model("deit_tiny_patch16_224", **options).eval()
    ours = convert("deit", None, theirs.state_dict())
    assert {field: getattr(ours.config, field) for field in expected} == expected
    pixel_values = torch.randn(2, options.get("in_chans", 3), options["img_size"], options["img_size"])
    with torch.no_grad():
        torch.testing.assert_close(ours(pixel_values).logits, theirs(pixel_values), atol=1e-4, rtol=1e-4)


def test_the_system_is_found_by_the_keys_or_those_that_fit_are_listed():
    with torch.device("meta"):
        levit, vit = (CASES[f"timm {name}"].make(True) for name in ("levit_128s", "vit_tiny_patch16_224"))
    as_saved = {key: torch.zeros(value.shape, dtype=value.dtype) for key, value in levit.state_dict().items()}
    assert find(as_saved) == ("levit", "levit_128s")
    as_saved = {key: torch.zeros(value.shape) for key, value in vit.state_dict().items()}
    with pytest.raises(ValueError, match=r"fits several systems.*deit \(.*vit \(vit_tiny_patch16_224, keys of timm\)"):
        find(as_saved)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["base_model.model.vit.layers.0.attention.q_proj.lora_A.weight"], "a LoRA adapter"),
        (["model.layers.0.self_attn.q_proj.qweight", "model.layers.0.self_attn.q_proj.qzeros"], "quantised"),
        (["0.scale", "0.zero_point"], "quantised"),
        (["layer1.0.conv1.weight", "layer1.0.bn1.weight"], "convolutional network"),
        (["stages.0.blocks.0.conv_dw.weight", "stages.0.blocks.0.norm.weight"], "convolutional network"),
        (["model.layers.0.self_attn.q_proj.weight"], "a language model"),
    ],
    ids=["lora", "quantised", "quantised by torch", "resnet", "convnext", "language"],
)
def test_what_is_no_model_of_ours_is_named(keys, message):
    with pytest.raises(ValueError, match=message):
        convert("deit", None, {key: torch.zeros(2, 2) for key in keys})
