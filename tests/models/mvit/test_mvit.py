"""MViT beyond the golden cases: sizes, windows, fused and eager attention, files, settings refused."""

import pytest
import timm.models.mvitv2 as timm_mvit
import torch
from torchvision.models.video import mvit as torchvision_mvit

from hf_vits import CctConfig, CctModel
from hf_vits.conversion import convert, load_checkpoint
from hf_vits.hub import model_card
from hf_vits.layers.relative_position import DecomposedRelativePositions, stretched_offsets
from hf_vits.models.mvit.attention_mvit import HeadPooling, Pooling
from hf_vits.models.mvit.configuration_mvit import MvitConfig
from hf_vits.models.mvit.modeling_mvit import (
    MvitBackbone,
    MvitForImageClassification,
    MvitForVideoClassification,
    MvitModel,
)

SMALL = {"depths": [1, 2, 1], "hidden_sizes": [8, 16, 32], "num_attention_heads": [1, 2, 4], "image_size": 64}
CLIPS = {
    "num_frames": 4,
    "patch_size": [3, 7, 7],
    "patch_stride": [2, 4, 4],
    "pooling_kernel_size": [3, 3, 3],
    "key_value_stride": 8,
    "use_class_token": True,
}
V1 = {
    "position_embedding_type": "absolute",
    "expand_in_attention": False,
    "pool_all_queries": False,
    "residual_pooling": False,
    "use_class_token": True,
}
FORMS = {
    "v2": {},
    "class token": {"use_class_token": True},
    "windows": {"window_size": 8},
    "v1": V1,
    "v2 of clips": CLIPS,
    "v1 of clips": CLIPS | V1,
    "v1 of clips, mean": CLIPS | V1 | {"use_class_token": False},
    "pooling first": CLIPS | {"pool_first": "heads"},
    "pooling first by channels": {"pool_first": "channels"},
    "kernels by stride": CLIPS | V1 | {"pooling_kernel_size": None},
}


def build(model_class=MvitForImageClassification, **fields):
    """A small model whose every weight is random, relative positions of a size that counts."""
    torch.manual_seed(0)
    model = model_class(MvitConfig(**SMALL | {"num_labels": 5} | fields)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    return model


def pixels(*size: int, clip: bool = False) -> torch.Tensor:
    shape = (2, 4, 3, *size) if clip else (2, 3, *size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


# Attention


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [(64, 64), (72, 50)], ids=str)
def test_fused_attention_equals_eager_and_so_do_gradients(form, size):
    fields = FORMS[form]
    model, images = build(**fields), pixels(*size, clip="num_frames" in fields)
    results = []
    for implementation in ("sdpa", "eager"):
        model.set_attn_implementation(implementation)
        model.zero_grad()
        logits = model(images).logits
        logits.square().sum().backward()
        results.append([logits, *(parameter.grad for parameter in model.parameters())])
    for fused, eager in zip(*results, strict=True):
        torch.testing.assert_close(fused, eager, atol=1e-4 * max(1.0, eager.abs().max().item()), rtol=0)


@pytest.mark.parametrize("pool_first", ["heads", "channels"])
@torch.no_grad()
def test_pooling_comes_before_the_projections(pool_first):
    """As in MultiScaleAttention of slowfast/models/attention.py with `pool_first`, mode conv and conv_unshared."""
    model = build(pool_first=pool_first, use_class_token=True, position_embedding_type="absolute")
    attention = model.model.stages[1].layers[0].attention
    tokens, grid = torch.randn(2, 1 + 8 * 8, 8), (8, 8)
    groups = 2 if pool_first == "heads" else 1
    pooled = {}
    for name in ("query", "key", "value"):
        pooling, projection = (getattr(attention, f"{name}{part}") for part in ("_pooling", ""))
        parts = []
        for states in tokens.chunk(groups, dim=-1):
            maps = states[:, 1:].mT.unflatten(2, grid)
            kernel = pooling.convolution.weight
            maps = torch.nn.functional.conv2d(maps, kernel, stride=2, padding=1, groups=len(kernel))
            states = torch.cat([states[:, :1], maps.flatten(2).mT], dim=1)
            norm = pooling.norm
            parts.append(torch.nn.functional.layer_norm(states, [len(norm.weight)], norm.weight, norm.bias, norm.eps))
        projected = torch.cat(parts, dim=-1) @ projection.weight.T + projection.bias
        pooled[name] = projected.unflatten(-1, (2, 8)).transpose(1, 2)
    scores = pooled["query"] @ pooled["key"].mT / 8**0.5
    attended = scores.softmax(dim=-1) @ pooled["value"]
    attended[:, :, 1:] += pooled["query"][:, :, 1:]
    expected = attention.projection(attended.transpose(1, 2).flatten(2))
    torch.testing.assert_close(attention(tokens, grid)[0], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_clips_of_few_frames_have_true_gradients_in_bfloat16(frames):
    pooling = HeadPooling(16, Pooling((3, 3, 3), (1, 1, 1)), 1e-6)
    states = torch.randn(2, 2, frames * 49, 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    expected = pooling_gradient(pooling, states.float())
    freed = [torch.full((size,), torch.nan) for size in range(1000, 60000, 1000)]
    del freed  # a kernel that reads memory which nobody wrote meets these
    gradient = pooling_gradient(pooling.bfloat16(), states).float()
    assert (gradient - expected).abs().max() < 0.05 * expected.abs().max()


def pooling_gradient(pooling: HeadPooling, states: torch.Tensor) -> torch.Tensor:
    pooled, _ = pooling(states, (states.shape[2] // 49, 7, 7))
    weights = torch.randn(pooled.shape, generator=torch.Generator().manual_seed(1))
    return torch.autograd.grad((pooled * weights).sum(), pooling.convolution.weight)[0]


@pytest.mark.parametrize(("queries", "keys"), [(13, 7), (7, 13), (39, 10), (20, 10), (25, 7), (5, 5)])
def test_offsets_are_cut_off_in_single_precision(queries, keys):
    """As in cal_rel_pos_spatial of mvit/models/attention.py, whose steps in this order decide the last bit."""
    rows, columns = torch.arange(queries)[:, None], torch.arange(keys)[None]
    distance = rows * max(keys / queries, 1.0) - columns * max(queries / keys, 1.0)
    distance += (keys - 1) * max(queries / keys, 1.0)
    offsets = stretched_offsets(queries, keys, "cpu")
    assert torch.equal(offsets, distance.long())
    assert offsets.min() >= 0
    assert offsets.max() <= 2 * max(queries, keys) - 2


def test_windows_that_hold_the_whole_map_change_nothing():
    """In two stages, since between the first and the last windows bring a coarser map of keys along."""
    two_stages = {"depths": [2, 2], "hidden_sizes": [8, 16], "num_attention_heads": [1, 2]}
    whole, windowed = build(**two_stages), build(**two_stages, window_size=16)
    windowed.load_state_dict(whole.state_dict())
    images = pixels(64, 64)
    torch.testing.assert_close(windowed(images).logits, whole(images).logits, atol=1e-5, rtol=1e-5)


def test_windows_keep_tokens_apart_until_a_layer_sees_the_whole_map():
    one_stage = {"depths": [2], "hidden_sizes": [8], "num_attention_heads": [1], "window_size": 8}
    model = build(MvitModel, **one_stage)
    images = pixels(64, 64)
    changed = images.clone()
    changed[..., 40:, 40:] += 1
    difference = (model(images).last_hidden_state - model(changed).last_hidden_state).abs().sum(-1)
    difference = difference.view(2, 16, 16)
    assert difference[:, :7, :7].max() == 0
    assert difference[:, 8:, 8:].min() > 0


# Sizes


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [(33, 97), (130, 31), (5, 5)], ids=str)
@torch.no_grad()
def test_every_input_size_works_and_maps_round_up(form, size):
    fields = FORMS[form]
    model = build(MvitBackbone, **fields, out_features=["stem", "stage1", "stage2", "stage3"])
    maps = model(pixels(*size, clip="num_frames" in fields)).feature_maps
    grids = [tuple(-(-side // stride) for side in size) for stride in (4, 4, 8, 16)]
    assert [tuple(feature_map.shape[-2:]) for feature_map in maps] == grids
    assert [feature_map.shape[1] for feature_map in maps] == model.channels
    if "num_frames" in fields:
        assert {feature_map.shape[2] for feature_map in maps} == {2}


def test_widths_of_the_maps_follow_where_channels_are_widened():
    names = ["stem", "stage1", "stage2", "stage3"]
    assert build(MvitBackbone, out_features=names).channels == [8, 8, 16, 32]
    assert build(MvitBackbone, out_features=names, expand_in_attention=False).channels == [8, 16, 32, 32]


@pytest.mark.parametrize("form", ["v2", "class token"])
@torch.no_grad()
def test_the_mean_can_be_pooled_before_the_norm(form):
    model = MvitModel(MvitConfig(**SMALL, **FORMS[form], use_mean_pooling=True)).eval()
    torch.nn.init.normal_(model.norm.bias)
    pixel_values, norm = torch.randn(2, 3, 64, 64), model.norm
    outputs = model(pixel_values)
    model.norm = torch.nn.Identity()
    tokens = model(pixel_values).last_hidden_state[:, model.config.num_prefix_tokens :]
    torch.testing.assert_close(outputs.pooler_output, norm(tokens.mean(dim=1)))
    assert not torch.allclose(outputs.pooler_output, norm(tokens).mean(dim=1), atol=1e-3)


def test_clips_and_images_are_told_apart():
    with pytest.raises(ValueError, match=r"clips \(batch, frames, 3, height, width\).*pixel_values\[:, None\]"):
        build(**CLIPS)(pixels(64, 64))
    with pytest.raises(ValueError, match=r"pixel_values must be \(batch, 3, height, width\)"):
        build()(pixels(64, 64, clip=True))
    with pytest.raises(ValueError, match="frames, 3, height"):
        build(**CLIPS)(pixels(64, 64, clip=True).transpose(1, 2))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"patch_size": [3, 7, 7]}, r"patch_size needs a value for each of \(height, width\).*\[3, 7, 7\]"),
        ({"num_frames": 4}, r"patch_size needs a value for each of \(frames, height, width\)"),
        ({"pooling_kernel_size": [2, 2]}, r"pooling_kernel_size must be positive and odd.*\[2, 2\]"),
        ({"pooling_kernel_size": [-1, 3]}, r"pooling_kernel_size must be positive and odd.*\[-1, 3\]"),
        ({"window_size": 6}, "window_size must be a multiple of 4.*window_size=6"),
        ({"window_size": 8, "use_class_token": True}, "images without a class token"),
        ({"window_size": 8, "pool_first": "heads"}, "window_size=8 is for projections before pooling"),
        (
            {"pool_first": "heads", "hidden_sizes": [8, 18, 36], "num_attention_heads": [1, 3, 4]},
            "the 3 heads of stage 2 divide the 8 channels",
        ),
        ({"hidden_sizes": [8, 17, 32]}, "multiple of its num_attention_heads"),
        ({"depths": [1, 1]}, "one value per stage"),
        ({"classifier_dropout_prob": 1.5}, "classifier_dropout_prob must lie in"),
    ],
)
def test_settings_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        MvitConfig(**SMALL | fields)


# Weights


def test_initialisation_is_the_originals():
    torch.manual_seed(0)
    for name, bias in {"mvit": 0.0, "slowfast": 0.02, "detectron2": 0.0}.items():
        model = MvitForImageClassification(MvitConfig(**SMALL, initializer=name))
        layer = model.model.stages[1].layers[0]
        assert layer.mlp.up.bias.eq(bias).all()
        assert layer.attention_norm.bias.eq(bias).all()
        assert layer.attention.key_pooling.norm.weight.eq(1).all()
        assert layer.mlp.up.weight.std().item() == pytest.approx(0.02, rel=0.1)
        tables = torch.cat(list(layer.attention.positions.tables))
        assert tables.std().item() == pytest.approx(0.0 if name == "detectron2" else 0.02, rel=0.3)
        kernel = model.model.embeddings.projection.weight
        # PyTorch draws uniformly up to 1 / sqrt(fan in).
        expected = 0.02 if name == "slowfast" else (3 * 147) ** -0.5
        assert kernel.std().item() == pytest.approx(expected, rel=0.1)


def test_dropout_stands_before_the_classifier_alone():
    model = build(classifier_dropout_prob=0.5, drop_path_rate=0.0)
    images = pixels(64, 64)
    before = model.model(images).pooler_output
    model.train()
    torch.testing.assert_close(model.model(images).pooler_output, before)
    assert (model.encode(images).pooler_output == 0).any()


def test_a_classifier_becomes_a_detectors_backbone(tmp_path):
    classifier = build(use_class_token=True)
    classifier.save_pretrained(tmp_path)
    names = ["stage1", "stage2", "stage3"]
    fields = {"use_class_token": False, "window_size": 16, "use_stage_norm": True, "out_features": names}
    backbone, info = MvitBackbone.from_pretrained(tmp_path, **fields, output_loading_info=True)
    assert {key.rpartition(".")[0] for key in info["missing_keys"]} == {f"stage_norms.{stage}" for stage in range(3)}
    assert not info["unexpected_keys"]
    means = [feature_map.mean(dim=1).abs().max() for feature_map in backbone(pixels(64, 64)).feature_maps]
    assert max(means) < 1e-5


# Files


def timm_model(**fields) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    """timm's model of a small network, and its weights under the original's keys."""
    torch.manual_seed(0)
    cfg = timm_mvit.MultiScaleVitCfg(depths=(1, 2, 1), embed_dim=(8, 16, 32), num_heads=(1, 2, 4), **fields)
    cfg.stride_q = ((1, 1), (2, 2), (2, 2))
    cfg.stride_kv = ((4, 4), (2, 2), (1, 1))
    model = timm_mvit.MultiScaleVit(cfg, img_size=(64, 64), num_classes=5).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    firsts, checkpoint = (0, 1, 3), {}
    for key, tensor in model.state_dict().items():
        if key.startswith("stages."):
            _, stage, _, block, rest = key.split(".", 4)
            key = f"blocks.{firsts[int(stage)] + int(block)}.{rest}"
        key = key.replace("shortcut_proj_attn", "proj").replace("shortcut_proj_mlp", "proj")
        checkpoint[key.replace("head.fc.", "head.projection.")] = tensor
    return model, checkpoint


def convert_small(checkpoint: dict, variant: str = "mvitv2_t_in1k", **fields):
    sizes = {name: SMALL[name] for name in ("depths", "hidden_sizes", "num_attention_heads")}
    return convert("mvit", variant, checkpoint, **sizes | fields)


@pytest.mark.parametrize("expand", [True, False])
@torch.no_grad()
def test_timm_computes_the_same(expand):
    theirs, checkpoint = timm_model(expand_attn=expand)
    ours = convert_small({"model_state": checkpoint, "epoch": 3})
    assert (ours.config.expand_in_attention, ours.config.image_size, ours.config.num_labels) == (expand, 64, 5)
    torch.testing.assert_close(ours(pixels(64, 64)).logits, theirs(pixels(64, 64)), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_class_token_that_the_network_has_not_is_ignored():
    _, checkpoint = timm_model()
    without = convert_small(checkpoint)
    with_token = convert_small(checkpoint | {"cls_token": torch.randn(1, 1, 8)})
    assert torch.equal(with_token(pixels(64, 64)).logits, without(pixels(64, 64)).logits)


@torch.no_grad()
def test_tables_are_resized_to_the_size_asked_for():
    _, checkpoint = timm_model()
    ours = convert_small(checkpoint, image_size=96)
    tables = ours.model.stages[0].layers[0].attention.positions.tables
    assert [table.shape for table in tables] == [(2 * 24 - 1, 8)] * 2
    # Resized in advance or with the input, it is the same.
    torch.testing.assert_close(ours(pixels(96, 96)).logits, convert_small(checkpoint)(pixels(96, 96)).logits)


def slowfast_keys(model: MvitForImageClassification) -> dict[str, torch.Tensor]:
    """The model's weights under SlowFast's keys."""
    names = {
        "model.embeddings.projection.": "patch_embed.proj.",
        "model.": "",
        "attention_norm.": "norm1.",
        "mlp_norm.": "norm2.",
        "mlp.up.": "mlp.fc1.",
        "mlp.down.": "mlp.fc2.",
        "attention_shortcut.": "proj.",
        "mlp_shortcut.": "proj.",
        "attention.projection.": "attn.proj.",
        "attention.positions.tables.0": "attn.rel_pos_h",
        "attention.positions.tables.1": "attn.rel_pos_w",
        "classifier.": "head.projection.",
    }
    for name in ("query", "key", "value"):
        names |= {f"attention.{name}.": f"attn.{name[0]}."}
        names |= {f"attention.{name}_pooling.{ours}.": f"attn.{theirs}_{name[0]}." for ours, theirs in POOLING.items()}
    checkpoint = {}
    for key, tensor in model.state_dict().items():
        for stage, first in enumerate((0, 1, 3)):
            for layer in range(2):
                key = key.replace(f"stages.{stage}.layers.{layer}.", f"blocks.{first + layer}.")
        for ours, theirs in names.items():
            key = key.replace(ours, theirs, 1)
        checkpoint[key] = tensor
    return checkpoint


POOLING = {"convolution": "pool", "norm": "norm"}


def test_projections_without_bias_are_initialized():
    model = MvitForImageClassification(MvitConfig(**SMALL, initializer="slowfast", qkv_bias=False))
    layer = model.model.stages[0].layers[0]
    assert layer.attention.qkv.bias is None
    assert (layer.mlp.up.bias == 0.02).all()


@pytest.mark.parametrize("qkv_bias", [True, False])
@pytest.mark.parametrize("expand", [True, False])
@pytest.mark.parametrize("pool_first", ["heads", "channels"])
@torch.no_grad()
def test_files_with_pooling_first_are_read(pool_first, expand, qkv_bias):
    model = build(pool_first=pool_first, expand_in_attention=expand, qkv_bias=qkv_bias)
    checkpoint = slowfast_keys(model)
    assert ("blocks.0.attn.q.bias" in checkpoint) == qkv_bias
    # Without a layer that widens, the shapes may be those of projections before pooling.
    known = expand or pool_first == "channels"
    ours = convert("mvit", None, checkpoint, **{} if known else {"pool_first": pool_first})
    fields = ("pool_first", "qkv_bias", "expand_in_attention", "num_attention_heads")
    assert [getattr(ours.config, field) for field in fields] == [pool_first, qkv_bias, expand, [1, 2, 4]]
    torch.testing.assert_close(ours(pixels(64, 64)).logits, model(pixels(64, 64)).logits)
    if not known:
        other = convert("mvit", None, checkpoint)
        assert other.config.pool_first is None
        assert not torch.allclose(other(pixels(64, 64)).logits, ours(pixels(64, 64)).logits, atol=1e-2)


@pytest.mark.parametrize("relative", [True, False])
@torch.no_grad()
def test_torchvisions_files_of_clips_are_read(relative):
    torch.manual_seed(0)
    kernel = [3, 3, 3]
    blocks = [
        # heads, channels that come and leave, kernels and strides of queries, and of keys and values
        (1, 8, 8 if relative else 16, kernel if relative else [], kernel, [1, 1, 1] if relative else [], [1, 4, 4]),
        (2, 8 if relative else 16, 16, kernel, kernel, [1, 2, 2], [1, 2, 2]),
    ]
    names = ("num_heads", "input_channels", "output_channels", "kernel_q", "kernel_kv", "stride_q", "stride_kv")
    settings = [torchvision_mvit.MSBlockConfig(**dict(zip(names, block, strict=True))) for block in blocks]
    theirs = torchvision_mvit.MViT(
        spatial_size=(64, 64),
        temporal_size=4,
        block_setting=settings,
        residual_pool=relative,
        residual_with_cls_embed=False,
        rel_pos_embed=relative,
        proj_after_attn=relative,
        num_classes=5,
    ).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(std=0.2)
    variant = "mvitv2_s_16x4_k400" if relative else "mvit_b_16x4_k400"
    sizes = {"depths": [1, 1], "hidden_sizes": [8, 16], "num_attention_heads": [1, 2], "key_value_stride": 4}
    ours = convert("mvit", variant, theirs.state_dict(), **sizes)
    assert isinstance(ours, MvitForVideoClassification)
    assert (ours.config.image_size, ours.config.num_frames, ours.config.num_labels) == (64, 4, 5)
    clips = pixels(64, 64, clip=True)
    torch.testing.assert_close(ours(clips).logits, theirs(clips.transpose(1, 2)), atol=1e-4, rtol=1e-4)
    longer = convert("mvit", variant, theirs.state_dict(), **sizes, num_frames=8)
    double = clips.repeat(1, 2, 1, 1, 1)
    torch.testing.assert_close(longer(double).logits, ours(double).logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("variant", "builder"),
    [("mvit_b_16x4_k400", torchvision_mvit.mvit_v1_b), ("mvitv2_s_16x4_k400", torchvision_mvit.mvit_v2_s)],
)
@torch.no_grad()
def test_torchvisions_models_compute_the_same(variant, builder):
    """In full width and depth, on clips of 4 x 64 x 64, for which the first version has tables of its own."""
    torch.manual_seed(0)
    theirs = builder(num_classes=7).eval()
    relative = builder is torchvision_mvit.mvit_v2_s
    theirs.pos_encoding = torchvision_mvit.PositionalEncoding(96, (16, 16), 2, rel_pos_embed=relative)
    for name, parameter in theirs.named_parameters():
        if parameter.ndim == 1:
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
        else:
            is_table = "pos" in name or "token" in name
            parameter.normal_(std=0.2 if is_table else parameter[0].numel() ** -0.5)
    ours = convert("mvit", variant, theirs.state_dict())
    clips = pixels(64, 64, clip=True)
    expected = theirs(clips.transpose(1, 2))
    assert (expected[0] - expected[1]).abs().max() > 0.01
    torch.testing.assert_close(ours(clips).logits, expected, atol=1e-4, rtol=1e-4)


def test_files_of_slowfast_are_read_as_they_are_saved(tmp_path):
    path = tmp_path / "MODEL.pyth"
    _, checkpoint = timm_model()
    saved = {"epoch": 200, "model_state": checkpoint, "optimizer_state": {"state": {}, "param_groups": []}}
    torch.save(saved | {"cfg": "TRAIN:\n  ENABLE: true\n", "scaler_state": {"scale": 65536.0}}, path)
    assert load_checkpoint(path).keys() == checkpoint.keys()


def test_files_that_do_not_fit_are_refused():
    _, checkpoint = timm_model()
    for bad in ("blocks.1.attn.rel_pos_h", "blocks.2.attn.qkv.weight", "norm.bias"):
        others = {key: tensor for key, tensor in checkpoint.items() if key != bad}
        for more in ({}, {bad: checkpoint[bad][None, None]}, {bad: checkpoint[bad][..., :0]}):
            with pytest.raises(ValueError, match="does not fit"):
                convert_small(others | more)
    with pytest.raises(ValueError, match="does not fit"):  # its class token has no place in this variant
        convert("mvit", "mvitv2_b_in21k", checkpoint)


def test_the_card_of_a_model_of_clips_shows_clips():
    card = model_card(build(MvitForVideoClassification, **CLIPS), variant="mvitv2_s_16x4_k400")
    assert card.data.pipeline_tag == "video-classification"
    assert 'model(**processor("clip.mp4", return_tensors="pt")).logits' in card.text


# Starting a model of clips


CLASS_TOKEN_FREE = CLIPS | {"use_class_token": False, "key_value_stride": 4}


@torch.no_grad()
def test_a_still_clip_is_seen_as_its_image_is():
    """With the central frame's kernels and no positions in time every frame is encoded as the image is."""
    source = build(use_class_token=False)
    model = build(MvitForVideoClassification, **CLASS_TOKEN_FREE)
    for module in model.modules():
        if isinstance(module, DecomposedRelativePositions):
            module.tables[0].zero_()
    model.initialize_from(source, inflation="central_frame")
    image = pixels(64, 64)
    still = image[:, None].expand(-1, 4, -1, -1, -1)
    torch.testing.assert_close(
        model.model(still).pooler_output, source.model(image).pooler_output, atol=1e-5, rtol=1e-5
    )


@torch.no_grad()
def test_kernels_of_images_are_repeated_as_in_the_original():
    source = build(MvitForImageClassification, use_class_token=True)
    model = build(MvitForVideoClassification, **CLIPS, image_size=96)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.initialize_from(source)
    ours, theirs = model.model, source.model
    assert torch.equal(
        ours.embeddings.projection.weight, theirs.embeddings.projection.weight[:, :, None].repeat(1, 1, 3, 1, 1)
    )
    layer, source_layer = ours.stages[1].layers[0].attention, theirs.stages[1].layers[0].attention
    kernel = source_layer.key_pooling.convolution.weight[:, :, None]
    assert torch.equal(layer.key_pooling.convolution.weight, kernel.repeat(1, 1, 3, 1, 1))
    assert torch.equal(layer.qkv.weight, source_layer.qkv.weight)
    assert torch.equal(ours.embeddings.class_token, theirs.embeddings.class_token)
    for axis in (0, 1):
        table = source_layer.positions.tables[axis]
        rows = layer.positions.tables[axis + 1]
        assert len(rows) > len(table)
        resized = torch.nn.functional.interpolate(table.T[None], size=len(rows), mode="linear")[0].T
        torch.testing.assert_close(rows, resized)
    after = model.state_dict()
    unchanged = {key for key in before if torch.equal(before[key], after[key])}
    assert unchanged == {key for key in before if key.endswith("positions.tables.0") or key.startswith("classifier.")}


@torch.no_grad()
def test_absolute_positions_are_those_of_the_image():
    source, model = build(**V1), build(MvitForVideoClassification, **CLIPS | V1)
    temporal = model.model.embeddings.position_embedding.temporal.clone()
    model.initialize_from(source)
    ours, table = model.model.embeddings.position_embedding, source.model.embeddings.position_embedding.table
    assert torch.equal(torch.cat([ours.prefix, ours.spatial.table], dim=1), table)
    assert torch.equal(ours.temporal, temporal)


@pytest.mark.parametrize("form", ["v2 of clips", "v1 of clips"])
@torch.no_grad()
def test_a_model_of_clips_starts_one_of_longer_clips(form):
    source = build(MvitForVideoClassification, **FORMS[form])
    model = build(MvitForVideoClassification, **FORMS[form] | {"num_frames": 8, "image_size": 96, "num_labels": 2})
    model.initialize_from(source)
    longer = torch.randn(1, 8, 3, 96, 96, generator=torch.Generator().manual_seed(2))
    expected = source.model(longer).pooler_output  # whose tables are resized as the clip comes
    torch.testing.assert_close(model.model(longer).pooler_output, expected, atol=1e-5, rtol=1e-5)


def test_models_that_do_not_fit_are_refused():
    clips = build(MvitForVideoClassification, **CLIPS)
    with pytest.raises(ValueError, match="num_frames is None"):
        build().initialize_from(build())
    with pytest.raises(ValueError, match=r"must have depths=\[1, 2, 1\], as this one, it has \[1, 1, 1\]"):
        clips.initialize_from(build(depths=[1, 1, 1]))
    with pytest.raises(ValueError, match=r"weights differ, such as stages\.0\.layers\.0\.attention"):
        clips.initialize_from(build(pooling_kernel_size=[5, 5]))
    with pytest.raises(ValueError, match="expected an MViT of hf_vits"):
        clips.initialize_from(CctModel(CctConfig(image_size=32)))
