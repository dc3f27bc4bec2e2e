"""Checkpoints trained at a size that nobody published: converted as they are, and resized only if asked."""

import re

import pytest
import torch

from hf_vits.configuration import pair
from hf_vits.conversion import convert
from tests.support.paths import PARITY_CASES

from ..parity.golden import Case


def checkpoint(name: str, shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    """A golden case's checkpoint whose tables have other shapes, by patterns of their keys."""
    case = Case.load(PARITY_CASES / f"{name}.json")
    keys = {
        key: next((new for pattern, new in shapes.items() if re.search(pattern, key)), shape)
        for key, shape in case.meta["keys"].items()
    }
    tensors = Case(case.path, case.meta | {"keys": keys, "aliases": {}}).checkpoint()
    return {key: torch.from_numpy(value) for key, value in tensors.items()}


def square(side: int, width: int, prefix: int = 0) -> list[int]:
    return [1, side * side + prefix, width]


# Tokens along a side of MViTv2-T's queries at 128 pixels, per layer.
MVIT_SIDES = [32, 16, 16, 16, 8, 8, 8, 8, 8, 4]
LEVIT = {r"blocks\.[0246]\.m\.attention_biases": [3, 64]}
LEVIT |= {r"blocks\.8\.attention_biases": [6, 64], r"blocks\.1[0246]\.m\.attention_biases": [5, 16]}
LEVIT |= {r"blocks\.18\.attention_biases": [9, 16], r"blocks\.2[0246]\.m\.attention_biases": [6, 4]}
FEW = {"num_attention_heads": 3}

# {golden case: (system, variant, overrides, shapes of the tables, fields that the model then has)}
NATIVE = {
    "deit/deit_tiny_distilled_patch16_224": (
        ("deit", "deit_tiny_distilled_patch16_224", {}),
        {"pos_embed": square(6, 192, 2)},
        {"image_size": 96},
    ),
    "vit/ti16_224_to_384": (
        ("vit", "ViT-Ti_16", {}),
        {"pos_embedding": square(6, 192, 1)},
        {"image_size": 96},
    ),
    "vit/bv_mu16_map_sharp": (("vit", "mu/16", {}), {"pos_embedding": square(5, 32)}, {"image_size": 80}),
    "dino/step_tiny": (
        ("dino", "vit_base_patch16", FEW),
        {"teacher.*pos_embed": square(6, 48, 1)},
        {"image_size": 48},
    ),
    "ibot/step_tiny_unshared": (
        ("ibot", "vit_base_patch16", FEW),
        {"teacher.*pos_embed": square(6, 36, 1)},
        {"image_size": 48},
    ),
    "sit/gen1_step_tiny": (
        ("sit", "gen1_vit_base_patch16", FEW),
        {"pos_embed": square(6, 48, 2)},
        {"image_size": 48},
    ),
    "cct/cct_6_3x2_32": (
        ("cct", "cct_6_3x2_32", {}),
        {"positional_emb": square(7, 256)},
        {"image_size": 28},
    ),
    "localvit/localvit_pvt_tiny": (
        ("localvit", "localvit_pvt_tiny", {}),
        {
            f"pos_embed{stage + 1}": square(48 // 2**stage, width, int(stage == 3))
            for stage, width in enumerate((64, 128, 320, 512))
        },
        {"image_size": 192},
    ),
    "localvit/localvit_tiny_mlp4_act4": (
        ("localvit", "localvit_tiny_mlp4_act3_r192", {"channel_attention": "efficient"}),
        {"pos_embed": square(6, 192, 1)},
        {"image_size": 96},
    ),
    "cmt/cmt_ti_160": (
        ("cmt", "cmt_ti", {}),
        {f"relative_pos_{letter}": [2**stage, 1024 // 4**stage, 16] for stage, letter in enumerate("abcd")},
        {"image_size": 128},
    ),
    "mvit/v2_t_in1k": (
        ("mvit", "mvitv2_t_in1k", {}),
        {rf"blocks\.{block}\.attn\.rel_pos": [2 * side - 1, 96] for block, side in enumerate(MVIT_SIDES)},
        {"image_size": 128},
    ),
    "levit/levit_192_img160": (("levit", "LeViT_192", {}), LEVIT, {"image_size": 128}),
    "vivit/mu16x2_fe_sharp": (
        ("vivit", "vivit_base_factorised_encoder_k400", {}),
        {"SpatialTransformer.*pos_embedding": square(3, 64, 1), "TemporalTransformer.*pos_embedding": [1, 6, 64]},
        {"image_size": 48, "num_frames": 10},
    ),
    "septr/septr_tiny": (
        ("septr", "septr_vh", {"num_attention_heads": 2}),
        {"pos_embedding_w": [1, 1, 17, 32]},
        {"num_frames": 16},
    ),
    "qna/qna_vit_tiny_resnetstem": (
        ("qna", "qna_vit_tiny", {}),
        {
            r"QnAStage_0.*_stride_2/FusedKQnA_0/rpe_bias": [25, 32],
            r"QnAStage_0.*_stride_2/FusedKQnA_0/attn_scale_weights": [1, 1, 25, 32],
            r"QnAStage_0.*FusedKQnA_0/rpe_bias": [25, 16],
            r"QnAStage_0.*FusedKQnA_0/attn_scale_weights": [1, 1, 25, 16],
            r"LSAStage_2.*rpe_bias": [169, 8],
        },
        {"kernel_sizes": [5, 3, 3, 3], "window_sizes": [7, 7, 7, 7]},
    ),
}


def forbidden(*arguments, **options):
    raise AssertionError("a table is resized, though nobody asked for another size")


@pytest.mark.parametrize("name", NATIVE)
def test_tables_of_another_native_size_are_kept(name, monkeypatch):
    monkeypatch.setattr(torch.nn.functional, "interpolate", forbidden)
    (system, variant, overrides), shapes, expected = NATIVE[name]
    tensors = checkpoint(name, shapes)
    model = convert(system, variant, dict(tensors), **overrides)
    assert {field: getattr(model.config, field) for field in expected} == expected
    state = model.state_dict().values()
    for key in (key for key in tensors if any(re.search(pattern, key) for pattern in shapes)):
        table = tensors[key].flatten().sort().values
        same_size = (value for value in state if value.numel() == len(table))
        assert any(torch.equal(table, value.flatten().sort().values) for value in same_size), key
    if model.main_input_name == "pixel_values":
        height, width = pair(model.config.image_size)
        frames = (model.config.num_frames,) if getattr(model.config, "num_frames", None) else ()
        with torch.no_grad():
            model(torch.zeros(1, *frames, model.config.num_channels, height, width))


@pytest.mark.parametrize(
    "name", ["deit/deit_tiny_distilled_patch16_224", "vit/bv_mu16_map_sharp", "cct/cct_6_3x2_32", "dino/step_tiny"]
)
def test_another_size_resizes_the_table_as_a_forward_pass_does(name):
    (system, variant, overrides), shapes, expected = NATIVE[name]
    tensors = checkpoint(name, shapes)
    side = 2 * expected["image_size"]
    native = convert(system, variant, dict(tensors), **overrides)
    larger = convert(system, variant, dict(tensors), **overrides, image_size=side)
    assert larger.config.image_size == side
    pixel_values = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(larger(pixel_values)[0], native(pixel_values)[0])


def test_a_table_that_fits_no_size_is_refused_unless_a_size_is_given():
    name = "deit/deit_tiny_distilled_patch16_224"
    tensors = checkpoint(name, {"pos_embed": [1, 26, 192]})  # 4x6 patches and two tokens
    with pytest.raises(ValueError, match=r"position_embedding\.table: checkpoint \(1, 26, 192\)"):
        convert("deit", "deit_tiny_distilled_patch16_224", dict(tensors))
    model = convert("deit", "deit_tiny_distilled_patch16_224", dict(tensors), image_size=(64, 96))
    assert torch.equal(model.model.embeddings.position_embedding.table, tensors["pos_embed"])
