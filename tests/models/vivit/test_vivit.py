"""ViViT beyond the golden cases: all forms of attention, clips of other sizes, starting from image models, files."""

import dataclasses
import json

import msgpack
import pytest
import torch
from transformers import VivitConfig as TransformersVivitConfig
from transformers import VivitForVideoClassification as TransformersVivitForVideoClassification
from transformers import VivitModel as TransformersVivitModel

from benchmarks import clip_cost
from hf_vits.conversion import convert, from_transformers, load_checkpoint, to_transformers
from hf_vits.layers.frames import uniform_frames
from hf_vits.layers.transformer import UnscaledStochasticDepth
from hf_vits.models.deit.configuration_deit import DeiTConfig
from hf_vits.models.deit.modeling_deit import DeiTModel
from hf_vits.models.vit.configuration_vit import ViTConfig
from hf_vits.models.vit.modeling_vit import ViTForImageClassification, ViTModel
from hf_vits.models.vivit.configuration_vivit import VivitConfig
from hf_vits.models.vivit.modeling_vivit import VivitForVideoClassification, VivitModel
from hf_vits.recipe import InitializationRecipe, ModelRecipe
from hf_vits.training import tasks
from hf_vits.training.building import build_model

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24}
SMALL = {**SIZES, "image_size": 16, "num_frames": 4, "tubelet_size": [2, 4, 4], "num_temporal_layers": 2}
FORMS = {
    "spacetime": {},
    "mean": {"pooling": "mean", "representation_size": 6},
    "uniform frames": {"num_sampled_frames": 3, "tubelet_size": [1, 4, 4], "pooling": "first"},
    "factorised encoder": {"attention_type": "factorized_encoder"},
    "factorised encoder, sum": {"attention_type": "factorized_encoder", "pooling": "sum"},
    "frames averaged": {"attention_type": "factorized_encoder", "num_temporal_layers": 0},
    "factorised self-attention": {"attention_type": "factorized_self_attention", "pooling": "mean"},
    "space before time": {
        "attention_type": "factorized_self_attention",
        "attention_order": "space_time",
        "pooling": "max",
        "qkv_bias": False,
    },
    "factorised dot product": {"attention_type": "factorized_dot_product", "pooling": "mean"},
    "factorised dot product without biases": {
        "attention_type": "factorized_dot_product",
        "pooling": "sum",
        "qkv_bias": False,
    },
}


def build(model_class=VivitForVideoClassification, **fields):
    """A small model whose every weight is random."""
    torch.manual_seed(0)
    return randomised(model_class(VivitConfig(**SMALL | {"num_labels": 5} | fields)))


def randomised(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    return model.eval()


def clips(frames: int = 4, height: int = 16, width: int = 16, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, frames, 3, height, width, generator=torch.Generator().manual_seed(1))


# Attention


@pytest.mark.parametrize("form", FORMS)
def test_fused_attention_equals_eager_and_so_do_gradients(form):
    model, results = build(**FORMS[form]), []
    for implementation in ("sdpa", "eager"):
        model.set_attn_implementation(implementation)
        model.zero_grad()
        logits = model(clips()).logits
        logits.square().sum().backward()
        results.append([logits, *(parameter.grad for parameter in model.parameters())])
    for fused, eager in zip(*results, strict=True):
        torch.testing.assert_close(fused, eager, atol=1e-4 * max(1.0, eager.abs().max().item()), rtol=0)


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_tokens_that_nobody_reads_are_left_out_of_the_last_layers(form):
    model, counts = build(**FORMS[form]), []
    whole = model(clips(), output_hidden_states=True).logits
    model = build(**FORMS[form])
    encoders = [model.model.encoder, model.model.temporal_encoder]
    for encoder in filter(None, encoders):
        # Not the layer itself, which then would be watched, and run whole.
        encoder.norm.register_forward_pre_hook(lambda module, arguments: counts.append(arguments[0].shape[-2]))
    torch.testing.assert_close(model(clips()).logits, whole, atol=1e-5, rtol=1e-5)
    if model.config.pooling in ("token", "first"):
        assert set(counts) == {1}
    else:
        assert min(counts) > 1


def test_attention_across_frames_mixes_places_only_in_space():
    """With queries, keys and values of frames kept apart, a changed place changes nothing elsewhere, and likewise."""
    model = build(VivitModel, attention_type="factorized_self_attention", pooling="mean", num_hidden_layers=1)
    layer = model.encoder.layers[0]
    tokens = torch.randn(2, 3, 5, 16)
    changed = tokens.clone()
    changed[:, 1, 2] += 1
    for axis, same in {"time": (slice(None), slice(None), [0, 1, 3, 4]), "space": (slice(None), [0, 2])}.items():
        attention = getattr(layer, f"{axis}_attention")
        difference = (attention(changed)[0] - attention(tokens)[0]).abs().sum(-1)
        assert difference[same].max() == 0
        assert (difference > 0).sum() == 2 * (3 if axis == "time" else 5)


@pytest.mark.parametrize(("form", "shapes"), [
    ("factorised encoder", [(2, 2, 17, 16)] * 3 + [(2, 3, 16)] * 2),
    ("factorised self-attention", [(2, 2, 16, 16)] * 3),
    ("factorised dot product", [(2, 2, 16, 16)] * 3),
    ("spacetime", [(2, 33, 16)] * 3),
])  # fmt: skip
def test_hidden_states_keep_frames_apart_where_attention_does(form, shapes):
    model = build(VivitModel, **FORMS[form])
    outputs = model(clips(), output_hidden_states=True)
    assert [tuple(hidden_state.shape) for hidden_state in outputs.hidden_states] == shapes
    last = model(clips(), output_hidden_states=-1).hidden_states
    assert [tuple(state.shape) for state in last if state is not None] == shapes[-1:]
    assert outputs.last_hidden_state.ndim == 3


# Clips


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [(8, 12, 20), (2, 4, 4)], ids=str)
@torch.no_grad()
def test_other_clips_work(form, size):
    model = build(**FORMS[form])
    assert model(clips(*size)).logits.shape == (2, 5)


def test_clips_that_tubelets_do_not_fill_are_refused():
    model = build()
    with pytest.raises(ValueError, match="a clip of 3 frames cannot be cut into tubelets of 2"):
        model(clips(3))
    with pytest.raises(ValueError, match="18x16 pixels cannot be cut into patches of 4x4"):
        model(clips(4, 18))
    with pytest.raises(ValueError, match=r"clips \(batch, frames, 3, height, width\)"):
        model(clips()[:, 0])
    with pytest.raises(TypeError, match="floating point"):
        model(clips().to(torch.uint8))


def test_uniform_frames_are_the_originals():
    assert uniform_frames(17, 5) == [3, 6, 8, 11, 14]
    assert uniform_frames(32, 8) == [4, 7, 11, 14, 18, 21, 25, 28]
    assert uniform_frames(8, 8) == uniform_frames(8, 9) == list(range(8))
    assert uniform_frames(8, 2) == [3, 5, 7]  # rounding makes one more, which is cut off to the last frame


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"attention_type": "factorized_self_attention"}, 'no place for a class token.*got "token"'),
        ({"attention_type": "factorized_dot_product", "pooling": "first"}, "no place for a class token"),
        (
            {"attention_type": "factorized_dot_product", "pooling": "mean", "num_attention_heads": 1},
            "must be even.*num_attention_heads=1",
        ),
        ({"num_sampled_frames": 2}, r"tubelet_size must be \(1, height, width\)"),
        ({"tubelet_size": [4, 4]}, r"tubelet_size must have 3 values"),
        ({"num_temporal_layers": -1}, "must not be negative"),
        ({"head_sizes": [3, 4]}, r"head_sizes=\[3, 4\] are 7 classes together.*num_labels=2"),
        ({"hidden_size": 18}, "multiple of num_attention_heads"),
        ({"num_frames": 0}, "num_frames must be positive"),
    ],
)
def test_settings_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        VivitConfig(**SMALL | fields)


# Training


def test_stochastic_depth_drops_all_frames_of_a_clip_and_scales_nothing_up():
    torch.manual_seed(0)
    drop = UnscaledStochasticDepth(0.5).train()
    kept = drop(torch.ones(400, 3, 2, 4)).flatten(1)
    assert set(kept.unique().tolist()) == {0.0, 1.0}
    assert (kept.amin(1) == kept.amax(1)).all()
    assert kept.mean().item() == pytest.approx(0.5, abs=0.1)
    model = build(**FORMS["factorised encoder"], drop_path_rate=0.3)
    rates = [layer.drop_path.rate for layer in [*model.model.encoder.layers, *model.model.temporal_encoder.layers]]
    assert rates == pytest.approx([0, 0.3, 0, 0.3])


@pytest.mark.parametrize("form", ["spacetime", "factorised self-attention", "factorised dot product"])
def test_initialisation_is_the_originals(form):
    torch.manual_seed(0)
    fields = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 1}
    model = VivitForVideoClassification(VivitConfig(**SMALL | FORMS[form] | fields))
    layer = model.model.encoder.layers[0]
    for module in layer.modules():
        if hasattr(module, "qkv"):
            for linear in (module.qkv, module.projection):
                bound = (6 / 128) ** 0.5
                assert linear.weight.abs().max() <= bound
                assert linear.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
                assert linear.bias is None or linear.bias.abs().max() < 1e-5
    assert layer.mlp.up.weight.std().item() == pytest.approx((2 / 320) ** 0.5, rel=0.1)
    assert 0 < layer.mlp.up.bias.abs().max() < 1e-5
    kernel = model.model.embeddings.tubelet_embedding.projection.weight
    assert kernel.std().item() == pytest.approx((3 * 32) ** -0.5, rel=0.1)
    assert model.model.encoder.position_embedding.table.std().item() == pytest.approx(0.02, rel=0.1)
    assert model.classifier.weight.eq(0).all()


def test_several_heads_share_a_layer_and_their_losses_are_averaged():
    model = build(head_sizes=[3, 4], num_labels=7)
    labels = torch.tensor([[0, 3], [2, 1]])
    outputs = model(clips(), labels=labels)
    nouns, verbs = outputs.logits.split([3, 4], dim=1)
    cross_entropy = torch.nn.functional.cross_entropy
    expected = (cross_entropy(nouns, labels[:, 0]) + cross_entropy(verbs, labels[:, 1])) / 2
    torch.testing.assert_close(outputs.loss, expected)
    one_hot = [torch.eye(size)[labels[:, head]] for head, size in enumerate((3, 4))]
    torch.testing.assert_close(model(clips(), labels=torch.cat(one_hot, dim=1)).loss, expected)
    scores = model.joint_scores(outputs.logits).view(2, 3, 4)
    torch.testing.assert_close(scores, nouns.softmax(1)[:, :, None] * verbs.softmax(1)[:, None])
    with pytest.raises(ValueError, match=r"whole numbers of shape \(2, 2\) or distributions of shape \(2, 7\)"):
        model(clips(), labels=labels[:, 0])
    with pytest.raises(ValueError, match="one head"):
        build().joint_scores(outputs.logits)


# Starting from an image model


def image_model(model_class=ViTForImageClassification, **fields):
    torch.manual_seed(2)
    config_class = DeiTConfig if model_class is DeiTModel else ViTConfig
    fields = {"hidden_act": "gelu_pytorch_tanh", "num_labels": 7} | fields
    return randomised(model_class(config_class(**SIZES | {"image_size": 16, "patch_size": 4} | fields)))


@torch.no_grad()
def test_a_still_clip_is_seen_as_its_image_is():
    """Frames averaged, each encoded as the image model does; and tubelets of two equal frames are the patches."""
    source = image_model(use_class_token=False, pooling="mean")
    image = clips(1)
    for fields, options in {
        "frames averaged": ({"inflation": "average"}),
        "factorised self-attention": ({"inflation": "central_frame", "temporal_attention": "zero"}),
    }.items():
        model = build(VivitModel, **FORMS[fields] | {"pooling": "mean"})
        model.initialize_from(source, **options)
        still = image.expand(-1, 4, -1, -1, -1)
        expected = source.model(image[:, 0]).pooler_output
        torch.testing.assert_close(model(still).pooler_output, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_image_may_be_of_another_size():
    model = build(image_size=24)
    model.initialize_from(image_model(image_size=32))
    table = model.model.encoder.position_embedding.table[0, 1:].view(2, 6, 6, -1)
    assert torch.equal(table[0], table[1])
    source = image_model(image_size=32).model.embeddings.position_embedding
    torch.testing.assert_close(table[0].flatten(0, 1), source((6, 6))[0, 1:])


@torch.no_grad()
def test_a_deit_serves_and_its_class_token_is_left_out_where_there_is_none():
    model = build(pooling="mean")
    head = model.classifier.weight.clone()
    source = image_model(DeiTModel, distilled=True)
    model.initialize_from(source)
    table = source.embeddings.position_embedding.table
    assert torch.equal(model.model.encoder.position_embedding.table[0], table[0, 2:].repeat(2, 1))
    assert torch.equal(model.classifier.weight, head)
    model = build()
    model.initialize_from(source)
    assert torch.equal(model.model.encoder.class_token[0], source.embeddings.prefix_tokens[0, :1])


@torch.no_grad()
def test_a_clip_model_starts_one_for_longer_clips():
    for form in ("spacetime", "factorised encoder", "factorised dot product"):
        source, model = build(**FORMS[form]), build(**FORMS[form], num_frames=8, image_size=24, num_labels=3)
        model.initialize_from(source)
        longer = clips(8, 24, 24)
        # The tables are resized in advance as they would be with the input.
        expected = source.model(longer).pooler_output
        torch.testing.assert_close(model.model(longer).pooler_output, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ({"hidden_act": "gelu"}, {}, "hidden_act='gelu_pytorch_tanh', as this one, it has 'gelu'"),
        ({"layer_scale_init_value": 0.1}, {}, "layer_scale_init_value=None"),
        ({}, {"inflation": "all"}, "inflation must be one of central_frame, average, repeat, rank_pooling, got 'all'"),
        ({"image_size": 32}, {"positions": "stretch"}, "positions must be tile, resize or resize_tile, got 'stretch'"),
        ({"image_size": 20}, {"positions": "tile"}, "makes a table of 25 rows out of 25, but 32 are needed"),
        ({}, {"positions": "resize"}, "32 tokens make none"),
    ],
)
def test_models_that_do_not_fit_are_refused(source, options, message):
    with pytest.raises(ValueError, match=message):
        build().initialize_from(image_model(**source), **options)


def test_patches_of_another_size_and_other_forms_are_refused():
    with pytest.raises(ValueError, match=r"patches of 4x4 pixels cannot become tubelets of tubelet_size=\(2, 8, 8\)"):
        build(tubelet_size=[2, 8, 8]).initialize_from(image_model(ViTModel))
    with pytest.raises(ValueError, match="attention_type='spacetime'"):
        build().initialize_from(build(**FORMS["factorised encoder"]))
    with pytest.raises(ValueError, match="ViT, DeiT or ViViT of hf_vits"):
        build().initialize_from(TransformersVivitModel(TransformersVivitConfig(**SMALL_PEER)))


@pytest.mark.parametrize("own", [True, False], ids=["ours", "transformers"])
def test_a_recipe_starts_from_an_image_model(own, tmp_path):
    source = image_model(ViTModel, position_interpolation="bicubic")
    (source if own else to_transformers(source)).save_pretrained(tmp_path)
    config = SMALL | {"image_size": 32}
    start = {"pretrained": str(tmp_path), "inflation": "average", "positions": "resize_tile"}
    recipe = ModelRecipe(
        system="vivit",
        variant="vivit_base_k400",
        config=config,
        initialize_from=InitializationRecipe(**start),
    )
    model, _ = build_model(recipe, {"num_labels": 3}, tasks.load("video-classification"))
    kernel = model.model.embeddings.tubelet_embedding.projection.weight
    assert torch.equal(kernel[:, :, 0], source.embeddings.patch_embedding.projection.weight / 2)
    assert torch.equal(model.model.encoder.layers[1].mlp.up.weight, source.layers[1].mlp.up.weight)
    assert model.classifier.weight.eq(0).all()
    for change, message in (
        ({"system": "mvit", "variant": "mvitv2_s_16x4_k400", "config": {"depths": [1, 1, 1, 1]}}, "has no positions"),
        ({"system": "cct", "variant": "cct_2_3x2_32", "config": {}}, "cannot start from another kind of model"),
    ):
        with pytest.raises(ValueError, match=message):
            build_model(dataclasses.replace(recipe, **change), {"num_labels": 3}, tasks.load("video-classification"))


# Files, and transformers' own

SMALL_PEER = {**SIZES, "image_size": 16, "num_frames": 4, "tubelet_size": [2, 4, 4]}


def flax_tree(model: VivitForVideoClassification) -> dict:
    """A spatio-temporal model's weights as Flax names and lays them out."""
    state = {key: value.numpy() for key, value in model.state_dict().items()}
    heads = model.config.num_attention_heads
    encoder = {
        "posembed_input": {"pos_embedding": state["model.encoder.position_embedding.table"]},
        "encoder_norm": {"scale": state["model.encoder.norm.weight"], "bias": state["model.encoder.norm.bias"]},
    }
    for index in range(model.config.num_hidden_layers):
        layer = {k.split(".", 4)[4]: v for k, v in state.items() if k.startswith(f"model.encoder.layers.{index}.")}
        attention = {"out": {"kernel": layer["attention.projection.weight"].T.reshape(heads, -1, 16)}}
        attention["out"]["bias"] = layer["attention.projection.bias"]
        weights, biases = (layer[f"attention.qkv.{kind}"].reshape(3, 16, -1) for kind in ("weight", "bias"))
        for name, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
            attention[name] = {"kernel": weight.T.reshape(16, heads, -1), "bias": bias.reshape(heads, -1)}
        dense = {
            f"Dense_{number}": {"kernel": layer[f"mlp.{name}.weight"].T, "bias": layer[f"mlp.{name}.bias"]}
            for number, name in enumerate(("up", "down"))
        }
        encoder[f"encoderblock_{index}"] = {
            "MultiHeadDotProductAttention_0": attention,
            "MlpBlock_0": dense,
            "LayerNorm_0": {"scale": layer["attention_norm.weight"], "bias": layer["attention_norm.bias"]},
            "LayerNorm_1": {"scale": layer["mlp_norm.weight"], "bias": layer["mlp_norm.bias"]},
        }
    embedding = "model.embeddings.tubelet_embedding.projection"
    return {
        "Transformer": encoder,
        "cls": state["model.encoder.class_token"],
        "embedding": {
            "kernel": state[f"{embedding}.weight"].transpose(2, 3, 4, 1, 0),
            "bias": state[f"{embedding}.bias"],
        },
        "output_projection": {"kernel": state["classifier.weight"].T, "bias": state["classifier.bias"]},
    }


def packed(tree: dict) -> dict:
    """With arrays as Flax serialises them."""
    return {
        key: packed(value)
        if isinstance(value, dict)
        else msgpack.ExtType(1, msgpack.packb((value.shape, "float32", value.tobytes())))
        for key, value in tree.items()
    }


@pytest.mark.parametrize("wrap", [
    lambda tree: {"optimizer": {"target": tree, "state": {"step": 3}}, "rng": {}},
    lambda tree: {"params": tree, "opt_state": {"0": tree}, "global_step": 3},
], ids=["released", "newer"])  # fmt: skip
@torch.no_grad()
def test_training_states_of_flax_are_read(wrap, tmp_path):
    model = build()
    path = tmp_path / "checkpoint"
    path.write_bytes(msgpack.packb(wrap(packed(flax_tree(model)))))
    sizes = {"num_frames": 4, "image_size": 16} | SIZES
    converted = convert("vivit", "vivit_base_k400", load_checkpoint(path), **sizes)
    assert (converted.config.num_labels, converted.config.tubelet_size) == (5, [2, 4, 4])
    torch.testing.assert_close(converted(clips()).logits, model(clips()).logits)
    told = convert("vivit", "vivit_base_k400", load_checkpoint(path), num_frames=4, **SIZES)
    assert told.config.image_size == 16
    longer = convert("vivit", "vivit_base_k400", load_checkpoint(path), **sizes | {"num_frames": 8})
    torch.testing.assert_close(longer(clips(8)).logits, model(clips(8)).logits)


@torch.no_grad()
def test_size_and_length_of_the_clip_may_both_differ_from_the_file(tmp_path):
    """A table of 16 x 14 x 14 rows tells neither alone; the variant's own size does."""
    model = build(image_size=224, num_frames=32, tubelet_size=[2, 16, 16])
    path = tmp_path / "checkpoint"
    path.write_bytes(msgpack.packb({"params": packed(flax_tree(model))}))
    for sizes in ({"image_size": 96, "num_frames": 8}, {"num_frames": 8}, {"image_size": 96}):
        other = convert("vivit", "vivit_base_k400", load_checkpoint(path), **SIZES, **sizes)
        found = other.model.encoder.position_embedding
        torch.testing.assert_close(found.table, model.model.encoder.position_embedding(found.grid))
        assert found.grid == (other.config.num_frames // 2, *[other.config.image_size // 16] * 2)


def test_files_that_do_not_fit_are_refused():
    tree = {"Transformer/encoderblock_0/MultiHeadDotProductAttention_0/query/kernel": torch.zeros(16, 4, 4)}
    for fields in ({}, {"attention_type": "factorized_dot_product", "pooling": "mean"}):
        with pytest.raises(ValueError, match="does not fit vivit vivit_base_k400"):
            convert("vivit", "vivit_base_k400", tree, **SIZES, **fields)


@pytest.mark.parametrize(
    ("model_class", "options"),
    [
        (TransformersVivitForVideoClassification, {}),
        (TransformersVivitModel, {"add_pooling_layer": True}),
        (TransformersVivitModel, {"add_pooling_layer": False}),
    ],
)
@torch.no_grad()
def test_transformers_own_computes_the_same_and_back(model_class, options):
    torch.manual_seed(0)
    theirs = randomised(model_class(TransformersVivitConfig(**SMALL_PEER, num_labels=5), **options))
    ours = from_transformers(theirs)
    name = "logits" if "Classification" in model_class.__name__ else "last_hidden_state"
    torch.testing.assert_close(ours(clips())[name], theirs(clips())[name], atol=1e-5, rtol=1e-5)
    if options.get("add_pooling_layer"):
        torch.testing.assert_close(ours(clips()).pooler_output, theirs(clips()).pooler_output, atol=1e-5, rtol=1e-5)
    back = to_transformers(ours)
    assert type(back) is model_class
    assert all(torch.equal(value, back.state_dict()[key]) for key, value in theirs.state_dict().items())


def test_transformers_has_no_other_form():
    for form in ("mean", "factorised encoder"):
        with pytest.raises(ValueError, match="transformers has no such model"):
            to_transformers(build(**FORMS[form]))


# What it costs


def test_a_factorised_encoder_costs_in_proportion_to_the_frames(tmp_path, capsys):
    small = {"hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 384}
    costs = {
        model: [clip_cost.count_gmacs(variant, frames, image_size=64, **small) for frames in (64, 128)]
        for model, variant in clip_cost.MODELS.items()
    }
    growth = {model[0]: longer / shorter for model, (shorter, longer) in costs.items()}
    assert growth["2"] == pytest.approx(2, abs=0.05)
    assert growth["1"] > 2.7
    assert growth["2"] < min(growth["3"], growth["4"]) < growth["1"]


def test_costs_are_written_shown_and_drawn(tmp_path, capsys):
    rows, picture = tmp_path / "rows.json", tmp_path / "rows.png"
    chosen = ["--model", "2 factorised encoder", "--frames", "2", "--frames", "4", "--size", "32"]
    clip_cost.main([*chosen, "--json", str(rows), "--plot", str(picture)])
    assert picture.stat().st_size > 10_000
    assert "2 factorised encoder" in capsys.readouterr().out
    assert [row["growth"] is None for row in json.loads(rows.read_text())] == [True, False]
