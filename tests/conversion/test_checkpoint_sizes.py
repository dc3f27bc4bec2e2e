"""Checkpoints of sizes that nobody published: what the tensors record is read from them, whatever the variant says."""

import re

import pytest
import timm
import torch

from benchmarks.layouts import randomise
from hf_vits.conversion import convert
from tests.support.paths import PARITY_CASES

from ..parity.golden import Case, Config


def resized(name: str, widths: dict[int, int], dropped: str = "$^") -> dict[str, torch.Tensor]:
    """A golden case's checkpoint, with other lengths of axes and without the keys that match `dropped`."""
    case = Case.load(PARITY_CASES / f"{name}.json")
    keys = {
        key: [widths.get(length, length) for length in shape]
        for key, shape in case.meta["keys"].items()
        if not re.search(dropped, key)
    }
    tensors = Case(case.path, case.meta | {"keys": keys, "aliases": {}}).checkpoint()
    return {key: torch.from_numpy(value) for key, value in tensors.items()}


HALF = {64: 32, 96: 48, 128: 64, 192: 96, 256: 128, 384: 192, 512: 256, 576: 288, 768: 384, 1152: 576, 1536: 768}
HALF |= {288: 144, 2304: 1152, 3072: 1536}


@pytest.mark.parametrize(
    ("name", "variant", "file", "overrides", "expected"),
    [
        (
            "deit",
            "deit_base_patch16_LS",
            ("deit/deit_tiny_distilled_patch16_224", HALF | {1000: 5}, r"blocks\.([3-9]|1\d)\."),
            {"num_attention_heads": 4},
            {"hidden_size": 96, "num_hidden_layers": 3, "intermediate_size": 384, "num_labels": 5, "distilled": True}
            | {"layer_scale_init_value": None, "position_embedding_prefix": True, "image_size": 224},
        ),
        (
            "levit",
            "LeViT_384",
            ("levit/levit_192_img160", {20: 3}, r"blocks\.(2[2-9])\."),
            {},
            {"hidden_sizes": [192, 288, 384], "num_attention_heads": [3, 5, 6], "depths": [4, 4, 1], "key_dim": 32}
            | {"attention_ratio": 2, "downsampling_attention_ratio": 4, "image_size": 160, "num_labels": 3},
        ),
        (
            "dino",
            "vit_base_patch16_full",
            ("dino/step_tiny", {}),
            {"backbone_config": {"num_attention_heads": 3}},
            {"num_prototypes": 40, "head_hidden_size": 64, "head_bottleneck_size": 24},
        ),
        (
            "cct",
            "cct_14_7x2_224",
            ("cct/cct_6_3x2_32", {512: 320, 10: 4}, r"blocks\.[45]\."),
            {"num_attention_heads": 4, "kernel_size": 3, "stride": 1, "padding": 1},
            {"hidden_size": 256, "num_hidden_layers": 4, "intermediate_size": 320, "num_conv_layers": 2},
        ),
        (
            "coat",
            "coat_small",
            ("coat/coat_lite_tiny_224", {1000: 5}, r"serial_blocks[13]\.1"),
            {"num_attention_heads": 8},
            {"depths": [1, 2, 1, 2], "hidden_sizes": [64, 128, 256, 320], "num_parallel_layers": 0}
            | {"mlp_ratios": [8, 8, 4, 4], "relative_window_heads": [2, 3, 3]},
        ),
        (
            "cmt",
            "cmt_b",
            ("cmt/cmt_ti_160", {}, r"blocks_c\.[3-9]"),
            {},
            {"depths": [2, 2, 3, 2], "hidden_sizes": [46, 92, 184, 368], "mlp_ratio": 3.6, "stem_hidden_size": 16}
            | {"num_attention_heads": [1, 2, 4, 8], "image_size": 160},
        ),
        (
            "regionvit",
            "regionvit_base_w14_peg_224",
            ("regionvit/tiny_224_on_256", {}, r"layers\.2\.block\.[4-9]"),
            {},
            {"depths": [2, 2, 3, 2], "hidden_sizes": [64, 128, 256, 512], "num_attention_heads": [2, 4, 8, 16]}
            | {"window_size": 7, "num_conv_layers": 3, "use_conv_position_embedding": False},
        ),
        (
            "locally_sag",
            "cifar_base",
            ("locally_sag/imagenet_tiny_224", {}, r"layers\.1\.0\.layers\.[23]\."),
            {"image_size": 224, "patch_stride": 7, "patch_padding": 1, "num_attention_heads": [4] * 4},
            {"depths": [2, 2, 4, 4], "hidden_sizes": [192] * 4, "shift_type": "pad", "multi_query": False}
            | {"patch_size": 9},
        ),
        (
            "mvit",
            "mvitv2_l_in1k",
            ("mvit/v2_t_in1k", HALF | {1000: 5}),
            {},
            {"depths": [1, 2, 5, 2], "hidden_sizes": [48, 96, 192, 384], "expand_in_attention": True}
            | {"num_attention_heads": [1, 2, 4, 8]},
        ),
        (
            "vit",
            "L/16",
            ("vit/bv_mu16_map_sharp", {128: 96, 1000: 5}, r"encoderblock_2"),
            {},
            {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 96, "num_attention_heads": 2}
            | {"pooling": "map", "image_size": 112},
        ),
        (
            "vivit",
            "vivit_base_k400",
            ("vivit/mu16x2_fe_sharp", {128: 96, 400: 7}),
            {"image_size": [64, 80], "num_frames": 6},
            {"attention_type": "factorized_encoder", "hidden_size": 64, "num_hidden_layers": 2}
            | {"num_temporal_layers": 2, "intermediate_size": 96, "num_attention_heads": 4},
        ),
        (
            "septr",
            "septr_vh",
            ("septr/septr_tiny", {6: 5}, r"transformer\.1\."),
            {"num_attention_heads": 2},
            {"hidden_size": 32, "num_hidden_layers": 1, "head_dim": 16, "num_labels": 5},
        ),
        (
            "audiomer",
            "audiomer_s_sc12",
            ("audiomer/audiomer_m_sc20", {20: 5}),
            {},
            {"hidden_sizes": [4, 8, 16, 16, 32, 64, 128], "num_attention_heads": 2, "head_dim": 32, "mlp_ratio": 2},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_sizes_are_read_from_the_file(name, variant, file, overrides, expected):
    model = convert(name, variant, resized(*file), **overrides)
    built = {field: getattr(model.config, field) for field in expected}
    assert {key: list(value) if isinstance(value, tuple) else value for key, value in built.items()} == expected


@torch.no_grad()
def test_swins_absolute_positions_and_patches_without_norm():
    fields = {"embed_dim": 16, "depths": (1, 1), "num_heads": (1, 2), "img_size": 56, "num_classes": 3}
    theirs = randomise(timm.create_model("swin_tiny_patch4_window7_224", **fields))
    theirs.patch_embed.norm = torch.nn.Identity()
    tensors = {re.sub(r"^layers\.1\.downsample", "layers.0.downsample", k): v for k, v in theirs.state_dict().items()}
    tensors = {key.replace("head.fc.", "head."): value for key, value in tensors.items()}
    table = tensors["absolute_pos_embed"] = torch.randn(1, 14 * 14, 16)
    ours = convert("swin", "swin_tiny_patch4_window7_224", tensors)
    assert (ours.config.image_size, ours.config.use_absolute_embeddings, ours.config.use_patch_norm) == (
        56,
        True,
        False,
    )
    theirs.patch_embed.register_forward_hook(lambda module, inputs, output: output + table.view(1, 14, 14, 16))
    pixel_values = torch.randn(1, 3, 56, 56)
    torch.testing.assert_close(ours(pixel_values).logits, theirs(pixel_values), atol=1e-4, rtol=1e-4)


def test_audiomers_kernels_are_read_from_the_file():
    tensors = resized("audiomer/audiomer_m_sc20", {}, r"identity_layers")
    tensors = {
        key: torch.nn.functional.pad(value, (1, 1)) if key.endswith(".depthwise.weight") else value
        for key, value in tensors.items()
    }
    model = convert("audiomer", "audiomer_m_sc20", tensors)
    assert (model.config.kernel_size, model.config.use_residual) == (7, False)
    with torch.no_grad():
        assert model(torch.randn(1, 8192)).logits.isfinite().all()


def test_heads_of_another_width_are_asked_for():
    tensors = resized("deit/deit_tiny_distilled_patch16_224", HALF)
    with pytest.raises(ValueError, match=r"hidden_size=96, the variant hidden_size=192.*num_attention_heads=\.\.\."):
        convert("deit", "deit_tiny_distilled_patch16_224", tensors)
    tensors = resized("dino/step_tiny", {})
    with pytest.raises(ValueError, match=r"hidden_size=48, the variant hidden_size=384"):
        convert("dino", "vit_small_patch16_full", tensors)


def test_a_configuration_knows_what_was_read():
    config = Config({"width": 8, "heads": {"number": 2, "width": 4}, "unknown": None, "depths": [1, 2]})
    assert config.unread() == ["width", "heads", "unknown", "depths"]
    config.check(width=8, missing=3)
    assert config["heads"]["number"] == 2
    assert config.renamed({"depths": "layers", "missing": "more"}) == {"layers": [1, 2]}
    assert "unknown" in config
    assert config.unread() == ["heads.width", "unknown"]
    config.unused("unknown")
    dict(config["heads"])
    assert config.unread() == []
    with pytest.raises(AssertionError, match=r"the case has width=8, the model 9"):
        config.check(width=9)
