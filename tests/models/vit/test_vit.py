"""What the golden cases do not show of ViT and DeiT: options, errors, training and tracing."""

import math

import numpy as np
import pytest
import scipy.ndimage
import torch
from huggingface_hub.errors import StrictDataclassFieldValidationError

from hf_vits import (
    DeiTConfig,
    DeiTForImageClassification,
    ViTBackbone,
    ViTConfig,
    ViTForImageClassification,
    ViTForMaskedImageModeling,
    ViTModel,
    fuse,
)
from hf_vits.conversion import variants
from hf_vits.conversion.core import build
from hf_vits.layers.position import interpolate_positions

TINY = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "encoder_stride": 8,
}
FORMS = {
    "token": (ViTForImageClassification, {}),
    "mean": (ViTForImageClassification, {"use_class_token": False, "pooling": "mean"}),
    "map": (
        ViTForImageClassification,
        {"use_class_token": False, "pooling": "map", "position_embedding_prefix": False},
    ),
    "sincos2d": (ViTForImageClassification, {"position_embedding_type": "sincos2d", "representation_size": 48}),
    "hybrid": (ViTForImageClassification, {"stem_depths": [1, 1], "patch_size": 2}),
    "deit": (DeiTForImageClassification, {"distilled": True}),
    "deit3": (DeiTForImageClassification, {"position_embedding_prefix": False, "layer_scale_init_value": 1e-4}),
    "parallel": (DeiTForImageClassification, {"num_parallel_branches": 2}),
    "hmlp": (DeiTForImageClassification, {"patch_size": 16, "stem": "hierarchical_mlp"}),
}


def make(form: str, **more):
    model_class, fields = FORMS[form]
    torch.manual_seed(0)
    model = model_class(model_class.config_class(**{**TINY, **fields, **more}, num_labels=5)).eval()
    for name, parameter in model.named_parameters():  # heads start at zero
        if "classifier" in name:
            torch.nn.init.normal_(parameter)
    return model


def images(batch: int = 2, height: int = 32, width: int = 32) -> torch.Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


# Parameter counts, from the originals' own code (FACTS.md of vit and deit): {variant: (fields, parameters)}.
PARAMETERS = {
    "vit": {
        "ViT-Ti_16": 5_717_416,
        "ViT-S_16": 22_050_664,
        "ViT-S_32": 22_878_952,
        "ViT-B_8": 86_576_872,
        "ViT-B_16": 86_567_656,
        "ViT-B_32": 88_224_232,
        "ViT-L_16": 304_326_632,
        "ViT-L_32": 306_535_400,
        "ViT-H_14": 632_045_800,
        "ViT-S_16-gap-norep": 22_049_896,
        "ViT-B_16-gap-norep": 86_566_120,
        "ViT-S_32-gap-norep": 22_878_184,
        "ViT-B_32-gap-norep": 88_222_696,
        "R+ViT-Ti_16": 6_337_704,
        "R26+ViT-S_32": 36_431_912,
        "R26+ViT-B_32": 101_383_976,
        "R50+ViT-B_16": 98_659_112,
        "R50+ViT-L_32": 328_994_856,
    },
    # big_vision with the MAP head and without a classifier
    "big_vision": {
        "M/16": 41_475_584,
        "B/16": 92_884_224,
        "L/16": 315_894_784,
        "H/14": 650_438_400,
        "So400m/14": 427_680_704,
        "g/14": 1_036_448_384,
        "G/14": 1_881_132_416,
        "e/14": 3_873_342_720,
    },
    "deit": {
        "deit_tiny_patch16_224": 5_717_416,
        "deit_small_patch16_224": 22_050_664,
        "deit_base_patch16_224": 86_567_656,
        "deit_tiny_distilled_patch16_224": 5_910_800,
        "deit_small_distilled_patch16_224": 22_436_432,
        "deit_base_distilled_patch16_224": 87_338_192,
        "deit_base_patch16_384": 86_859_496,
        "deit_base_distilled_patch16_384": 87_630_032,
        "deit_tiny_patch16_LS": 5_721_832,
        "deit_small_patch16_LS": 22_059_496,
        "deit_medium_patch16_LS": 38_849_512,
        "deit_base_patch16_LS": 86_585_320,
        "deit_large_patch16_LS": 304_374_760,
        "deit_huge_patch14_LS": 632_126_440,
        "deit_huge_patch14_52_LS": 1_025_726_440,
        "deit_huge_patch14_26x2_LS": 1_025_726_440,
        "deit_giant_40_patch14_LS": 955_030_504,
        "deit_Giant_48_patch14_LS": 1_599_158_248,
        "deit_small_patch16_36": 64_637_416,
        "deit_small_patch16_36_LS": 64_665_064,
        "deit_small_patch16_18x2": 64_637_416,
        "deit_small_patch16_18x2_LS": 64_665_064,
        "deit_base_patch16_36x1": 256_675_816,
        "deit_base_patch16_36x1_LS": 256_731_112,
        "deit_base_patch16_18x2": 256_675_816,
        "deit_base_patch16_18x2_LS": 256_731_112,
    },
}


@pytest.mark.parametrize(("system", "variant"), [(s, v) for s, names in PARAMETERS.items() for v in names])
def test_parameter_counts_are_the_originals(system, variant):
    fields = variants("deit" if system == "deit" else "vit")[variant] | {"num_labels": 1000}
    if system == "big_vision":
        fields |= {"num_labels": 0, "use_class_token": False, "pooling": "map"}
    model_class = DeiTForImageClassification if system == "deit" else ViTForImageClassification
    with torch.device("meta"):
        model = build(model_class, fields)
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[system][variant]


@pytest.mark.parametrize("form", FORMS)
def test_other_and_non_square_sizes_run_and_wrong_ones_say_what_is_legal(form):
    model = make(form)
    with torch.no_grad():
        assert model(images(1, 48, 32)).logits.shape == (1, 5)
        with pytest.raises(ValueError, match="multiple"):
            model(images(1, 36, 33))


@pytest.mark.parametrize("form", FORMS)
def test_attention_implementations_agree(form):
    model, pixel_values = make(form), images()
    with torch.no_grad():
        expected = model(pixel_values).logits
        model.set_attn_implementation("eager")
        outputs = model(pixel_values, output_attentions=True)
    torch.testing.assert_close(outputs.logits, expected, atol=1e-5, rtol=1e-5)
    for probabilities in outputs.attentions:
        torch.testing.assert_close(probabilities.sum(-1), torch.ones_like(probabilities[..., 0]))


@pytest.mark.parametrize("form", FORMS)
def test_gradient_checkpointing_changes_no_gradient(form):
    model, pixel_values = make(form).train(), images()
    labels = torch.tensor([1, 3])

    def gradients():
        model.zero_grad()
        model(pixel_values, labels=labels).loss.backward()
        return {name: p.grad.clone() for name, p in model.named_parameters()}

    before = gradients()
    model.activation_checkpointing_enable()
    for name, gradient in gradients().items():
        torch.testing.assert_close(gradient, before[name], msg=name)
    assert all(gradient.abs().sum() > 0 for gradient in before.values())


@pytest.mark.parametrize("form", FORMS)
def test_meta_device_loading_equals_plain_loading(form, tmp_path):
    model, pixel_values = make(form), images()
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path, device_map="cpu")
    with torch.no_grad():
        torch.testing.assert_close(loaded(pixel_values).logits, model(pixel_values).logits)
    assert all(torch.equal(loaded.get_buffer(name), value) for name, value in model.named_buffers())
    assert all(torch.equal(loaded.get_parameter(name), value) for name, value in model.named_parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("form", FORMS)
def test_half_precision_autocast_and_weights(form, dtype):
    model, pixel_values = make(form), images()
    with torch.no_grad():
        expected = model(pixel_values).logits
        with torch.autocast("cpu", dtype=dtype):
            mixed = model(pixel_values).logits
        pure = model.to(dtype)(pixel_values).logits
    assert pure.dtype == dtype
    for logits in (mixed, pure):
        assert (logits.float() - expected).abs().max() < 0.1 * expected.std() + 0.1


@pytest.mark.parametrize("form", ["token", "map", "sincos2d", "deit", "parallel"])
def test_compile_without_graph_break_and_export(form):
    model, pixel_values = make(form), images()
    with torch.no_grad():
        expected = model(pixel_values).logits
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")(pixel_values).logits
        exported = torch.export.export(model, (pixel_values,)).module()(pixel_values).logits
    torch.testing.assert_close(compiled, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(exported, expected, atol=1e-5, rtol=1e-5)


def test_queries_keys_and_values_of_every_layer_are_read_out():
    model = make("token")
    with torch.no_grad():
        outputs = model(images(), output_query_states=True, output_key_states=True, output_value_states=True)
        model.set_attn_implementation("eager")
        attentions = model(images(), output_attentions=True).attentions
    assert len(outputs.query_states) == len(outputs.key_states) == len(outputs.value_states) == 3
    for query, key, value, expected in zip(
        outputs.query_states, outputs.key_states, outputs.value_states, attentions, strict=True
    ):
        assert query.shape == key.shape == value.shape == (2, 4, 17, 8)
        probabilities = (query @ key.transpose(-2, -1) / math.sqrt(8)).softmax(-1)
        torch.testing.assert_close(probabilities, expected)


def test_backbone_maps_are_the_models_tokens():
    config = ViTConfig(**TINY, out_features=["stem", "stage2", "stage3"])
    backbone = ViTBackbone(config).eval()
    with torch.no_grad():
        maps = backbone(images(2, 48, 32)).feature_maps
        states = backbone.model(images(2, 48, 32), output_hidden_states=True)
    assert [tuple(m.shape) for m in maps] == [(2, 32, 6, 4)] * 3
    assert torch.equal(maps[-1].flatten(2).transpose(1, 2), states.last_hidden_state[:, 1:])
    raw = ViTBackbone(ViTConfig(**TINY, out_indices=[2], apply_layernorm=False)).eval()
    raw.load_state_dict(backbone.state_dict())
    with torch.no_grad():
        expected = states.hidden_states[2][:, 1:]
        assert torch.equal(raw(images(2, 48, 32)).feature_maps[0].flatten(2).transpose(1, 2), expected)


def test_masked_patches_do_not_reach_the_encoder():
    model = ViTForMaskedImageModeling(ViTConfig(**TINY, use_mask_token=True)).eval()
    mask = torch.zeros(2, 16, dtype=torch.bool)
    mask[:, 5] = True  # row 1, column 1
    changed = images()
    changed[:, :, 8:16, 8:16] += 1
    with torch.no_grad():
        plain, other = model(images(), bool_masked_pos=mask), model(changed, bool_masked_pos=mask)
    assert torch.equal(plain.reconstruction, other.reconstruction)
    error = (plain.reconstruction - images())[:, :, 8:16, 8:16].abs().mean()
    torch.testing.assert_close(plain.loss, error)
    with pytest.raises(ValueError, match="use_mask_token"):
        ViTModel(ViTConfig(**TINY))(images(), bool_masked_pos=mask)
    with pytest.raises(ValueError, match=r"\(2, 16\)"):
        model(images(), bool_masked_pos=mask[:, :9])


def test_patch_dropout_only_in_training_keeps_order_and_class_token():
    model = ViTModel(ViTConfig(**TINY, patch_drop_rate=0.5))
    assert model.eval()(images()).last_hidden_state.shape[1] == 17
    assert model.train()(images()).last_hidden_state.shape[1] == 9
    tokens = torch.arange(16.0)[None, :, None].expand(3, -1, 4)
    kept = model.embeddings.patch_dropout(tokens)[..., 0]
    assert (kept.diff(dim=1) > 0).all()


@pytest.mark.parametrize("form", ["token", "mean", "deit", "deit3", "parallel"])
@torch.no_grad()
def test_a_classifier_spares_the_last_layer_what_nobody_reads(form):
    model = make(form)
    last = model.model.layers[-1]
    recorded = make(form)(images(), output_hidden_states=True)
    norms = [module for name, module in last.named_modules() if name.endswith("mlp_norm")]
    tokens = []
    norms[0].register_forward_pre_hook(lambda module, arguments: tokens.append(arguments[0].shape[1]))
    logits = model(images()).logits
    torch.testing.assert_close(logits, recorded.logits, atol=1e-5, rtol=1e-5)
    assert tokens == [recorded.hidden_states[-1].shape[1] if form == "mean" else model.config.num_prefix_tokens]
    seen = []
    last.register_forward_hook(lambda module, arguments, output: seen.append(output))
    model(images())
    assert torch.equal(seen[0], recorded.hidden_states[-1])


def test_stochastic_depth_rates_follow_the_schedule():
    linear = DeiTForImageClassification(DeiTConfig(**TINY, drop_path_rate=0.2))
    constant = DeiTForImageClassification(DeiTConfig(**TINY, drop_path_rate=0.2, drop_path_schedule="constant"))
    assert [layer.drop_path.p for layer in linear.model.layers] == pytest.approx([0, 0.1, 0.2])
    assert [layer.drop_path.p for layer in constant.model.layers] == pytest.approx([0.2] * 3)


@pytest.mark.parametrize("sizes", [(14, 24), (14, 10), (7, 5)])
def test_position_interpolation_is_scipys(sizes):
    old, new = sizes
    table = np.random.default_rng(0).standard_normal((1, 1 + old * old, 8)).astype(np.float32)
    grid = scipy.ndimage.zoom(table[0, 1:].reshape(old, old, 8), (new / old, new / old, 1), order=1)
    ours = interpolate_positions(torch.from_numpy(table), (old, old), (new, new), "bilinear_aligned")
    np.testing.assert_allclose(ours[0, 1:].numpy(), grid.reshape(-1, 8), atol=1e-5)
    assert torch.equal(ours[:, :1], torch.from_numpy(table[:, :1]))


@torch.no_grad()
def test_initialisation_is_the_originals():
    config = ViTConfig(
        num_labels=10, hidden_size=384, num_attention_heads=6, intermediate_size=1536, head_bias_init=-7.0
    )
    model = ViTForImageClassification(config)
    layer = model.model.layers[0]
    assert layer.attention.qkv.weight.abs().max() == pytest.approx(math.sqrt(6 / 768), rel=1e-3)
    assert layer.mlp.up.weight.abs().max() == pytest.approx(math.sqrt(6 / (384 + 1536)), rel=1e-3)
    assert layer.mlp.up.bias.std() == pytest.approx(1e-6, rel=0.1)
    assert model.model.embeddings.position_embedding.table.std() == pytest.approx(0.02, rel=0.02)
    assert not model.classifier.weight.any()
    assert (model.classifier.bias == -7).all()
    deit = DeiTForImageClassification(DeiTConfig(num_labels=10, layer_scale_init_value=1e-4))
    assert deit.model.layers[3].mlp.down.weight.std() == pytest.approx(0.02, rel=0.02)
    assert (deit.model.layers[3].mlp_scale.gamma == 1e-4).all()


def test_fuse_folds_batch_norms():
    model = make("hmlp")
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    with torch.no_grad():
        expected = model(images()).logits
        fused = fuse(model)(images()).logits
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())
    torch.testing.assert_close(fused, expected, atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="eval"):
        fuse(model.train())


@pytest.mark.parametrize(
    ("pixel_values", "error", "message"),
    [
        (torch.zeros(3, 32, 32), ValueError, "leading batch axis"),
        (torch.zeros(1, 32, 32, 3), ValueError, "num_channels=3"),
        (torch.zeros(1, 1, 32, 32), ValueError, "num_channels=3"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), TypeError, "image processor"),
        (torch.zeros(1, 3, 4, 4), ValueError, "multiple of 8"),
        (None, ValueError, "pixel_values"),
    ],
)
def test_bad_images_are_refused(pixel_values, error, message):
    with pytest.raises(error, match=message):
        make("token")(pixel_values)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"hidden_size": 30}, "num_attention_heads=4"),
        ({"drop_path_rate": 1.0}, "drop_path_rate"),
        ({"patch_size": 0}, "patch_size"),
        ({"use_class_token": False}, "pooling"),
        ({"hidden_size": 36, "num_attention_heads": 6, "position_embedding_type": "sincos2d", "patch_size": 33}, "33"),
        ({"hidden_size": 30, "num_attention_heads": 3, "position_embedding_type": "sincos2d"}, "hidden_size"),
    ],
)
def test_bad_configurations_are_refused(fields, named):
    with pytest.raises(ValueError, match=named):
        ViTModel(ViTConfig(**{**TINY, **fields}))


@pytest.mark.parametrize(
    "fields", [{"pooling": "max"}, {"hidden_size": "wide"}, {"position_interpolation": "lanczos"}]
)
def test_values_outside_a_fields_type_are_refused(fields):
    with pytest.raises(StrictDataclassFieldValidationError, match=next(iter(fields))):
        ViTConfig(**fields)
