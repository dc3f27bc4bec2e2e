"""What neither golden cases nor conformance show of QnA-ViT and its layer."""

import numpy as np
import pytest
import torch
from torch import nn

import hf_vits
from benchmarks.local_attention import UnfoldedQueryAttention
from hf_vits import QnaConfig
from hf_vits.conversion import convert
from hf_vits.conversion.systems.qna import resize_table
from hf_vits.models.qna.attention_qna import MAX_SCORE, LearnedQueryAttention
from hf_vits.models.qna.modeling_qna import QnaBackbone, QnaForImageClassification, QnaModel

from ...support.hub import TINY, tiny_model

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
POOLINGS = ("learned_query", "learned_query_and_mean")


def random_layer(layer_class=LearnedQueryAttention, **options) -> LearnedQueryAttention:
    torch.manual_seed(0)
    layer = layer_class(16, 16, 4, 3, **options)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.25)
    return layer


# the layer


@pytest.mark.parametrize(("middle", "reach"), [(300, 60), (-300, 60), (0, 69), (20, 400)])
def test_scores_beyond_the_range_of_exp(middle, reach):
    generator = torch.Generator().manual_seed(0)
    scores = middle + reach * (2 * torch.rand(2, 8, 8, 2 * 4, generator=generator) - 1)
    value = torch.randn(2, 8, 8, 16, generator=generator)
    inputs = (scores.requires_grad_(), value.requires_grad_())
    results, gradients = [], []
    for layer_class in (LearnedQueryAttention, UnfoldedQueryAttention):
        results.append(random_layer(layer_class).attend(*inputs))
        gradients.append(torch.autograd.grad(results[-1].square().sum(), inputs))
    assert results[0].isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients[0])
    if reach <= MAX_SCORE:
        torch.testing.assert_close(*results, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_constant_on_all_scores_changes_nothing():
    layer = random_layer(bias=True)
    hidden_states = torch.randn(1, 6, 7, 16, generator=torch.Generator().manual_seed(0))
    before = layer(hidden_states)
    layer.key.bias.mul_(1000)
    torch.testing.assert_close(layer(hidden_states), before, atol=1e-3, rtol=1e-3)


def test_gradients_are_right():
    layer = random_layer().double()
    hidden_states = torch.randn(1, 4, 5, 16, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (hidden_states,), fast_mode=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 3}, "multiple of num_heads"),
        ({"padding": 3}, "padding must be smaller than the kernel"),
        ({"attention_scale": "normal"}, "attention_scale must be one of learned, "),
        ({"attention_scale": "signed", "num_queries": 3, "num_heads": 1}, "even number"),
    ],
)
def test_layers_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LearnedQueryAttention(**{"in_channels": 16, "hidden_size": 16, "num_heads": 4, "kernel_size": 3} | options)


# the model


@torch.no_grad()
@pytest.mark.parametrize("size", [(29, 32), (32, 64), (61, 30)])
def test_maps_round_up(size):
    outputs = tiny_model("qna")(torch.rand(1, 3, *size), output_hidden_states=True)
    height, width = size
    for stage, hidden_state in enumerate(outputs.hidden_states[1:]):
        stride = 4 * 2**stage
        assert hidden_state.shape[-2:] == (-(-height // stride), -(-width // stride))


def test_maps_that_windows_do_not_fill_are_refused():
    with pytest.raises(ValueError, match=r"48x32 pixels has a map of 3x2 in stage 3, .*multiples of 32 pixels"):
        tiny_model("qna")(torch.rand(1, 3, 48, 32))


@torch.no_grad()
@pytest.mark.parametrize("pooling", POOLINGS)
def test_learned_pooling_is_made_for_one_size(pooling):
    model = tiny_model("qna", pooling=pooling)
    assert model(IMAGES).logits.shape == (2, 3)
    with pytest.raises(ValueError, match="made for a last map of 2x2, as image_size=32 gives"):
        model(torch.rand(1, 3, 64, 64))
    backbone = QnaBackbone(model.config).eval()
    assert backbone(torch.rand(1, 3, 64, 64)).feature_maps[-1].shape == (1, 16, 4, 4)


@torch.no_grad()
def test_fuse_folds_the_batch_norm_of_the_stem():
    model = tiny_model("qna", stem_type="resnet", shortcut_type="average")
    norm = model.model.embeddings.projection[1]
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    before = model(IMAGES).logits
    hf_vits.fuse(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    torch.testing.assert_close(model(IMAGES).logits, before, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_between_stages_only_the_mlp_is_ever_dropped():
    downsampling = tiny_model("qna").model.stages[1].downsampling.train()
    downsampling.drop_path.p = 1.0 - 1e-9
    hidden_states = torch.randn(4, 8, 8, 8)
    expected = downsampling.shortcut(hidden_states) + downsampling.attend(hidden_states)
    torch.testing.assert_close(downsampling(hidden_states), expected)


@torch.no_grad()
def test_initialisation_is_the_originals():
    torch.manual_seed(0)
    model = QnaForImageClassification(QnaConfig(num_labels=1000))
    attention = model.model.stages[0].layers[0].attention
    assert attention.position_bias.abs().max() == 0
    assert attention.attention_scale.std() == pytest.approx(0.02, rel=0.2)
    assert attention.queries.abs().max() <= 2 * 8**-0.5
    assert attention.value.weight.std() == pytest.approx(64**-0.5, rel=0.05)
    assert model.classifier.weight.std() == pytest.approx(512**-0.5, rel=0.01)
    assert model.classifier.weight.abs().max() <= 2 * 512**-0.5 / 0.8796
    ones = QnaModel(QnaConfig(attention_scale="learned_from_ones"))
    assert (ones.stages[2].layers[4].attention.attention_scale == 1).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"window_depths": [0, 0, 7, 2]}, "window_depths must lie between 0 and depths"),
        ({"kernel_sizes": [3, 3, 4, 3]}, "kernel_sizes must be odd"),
        ({"num_query_heads": [8, 16, 32, 60]}, "num_query_heads must divide"),
        ({"num_query_heads": [64, 16, 32, 64], "hidden_sizes": [64, 192, 256, 512]}, "twice the number"),
        ({"num_attention_heads": [2, 4, 8]}, "num_attention_heads needs one value per stage"),
        ({"attention_scale": "normal"}, "attention_scale"),
    ],
)
def test_fields_that_do_not_fit_are_named(fields, message):
    with pytest.raises(Exception, match=message):
        QnaConfig(**fields)


# checkpoints


def flax_state(**changes) -> dict:
    """A training state of a tiny model with a ResNet stem, as Flax keeps it."""
    config = QnaConfig(**TINY["qna"] | {"stem_type": "resnet", "num_labels": 3} | changes)
    random = np.random.default_rng(0)

    def array(*shape):
        return random.standard_normal(shape).astype(np.float32)

    def norm(size):
        return {"scale": array(size), "bias": array(size)}

    def block(in_channels, size, **attention):
        mlp = {
            "Dense_0": {"kernel": array(size, 4 * size), "bias": array(4 * size)},
            "Dense_1": {"kernel": array(4 * size, size), "bias": array(size)},
        }
        return {"LayerNorm_0": norm(in_channels), "LayerNorm_1": norm(size), "MlpBlock_0": mlp, **attention}

    def query_attention(in_channels, size, heads, kernel):
        return {
            "FusedKQnA_0": {
                "Wk": array(in_channels, size),
                "query": array(2, size),
                "rpe_bias": array(kernel**2, 2 * heads),
                "attn_scale_weights": array(1, 1, kernel**2, 2 * heads),
                "to_v": {"kernel": array(in_channels, size)},
                "to_out": {"kernel": array(size, size)},
            }
        }

    def window_attention(size, heads, window):
        table = array((2 * window - 1) ** 2, heads)
        return {
            "MultiHeadSelfAttention_0": {
                "to_qkv": {"kernel": array(size, 3 * size)},
                "to_out": {"kernel": array(size, size)},
                "RelativePositionalEmbedding_0": {"rpe_bias": table},
            }
        }

    sizes, last = config.hidden_sizes, len(config.depths) - 1
    params = {
        "StemBlock_0": {"conv_7x7": {"kernel": array(7, 7, 3, sizes[0])}, "BatchNorm_0": norm(sizes[0])},
        "ClassificationHead_0": {
            "LayerNorm_0": norm(sizes[-1]),
            "head_logits": {"kernel": array(sizes[-1], 3), "bias": array(3)},
        },
    }
    for stage, (size, depth, count) in enumerate(zip(sizes, config.depths, config.window_depths, strict=True)):
        heads, kernel = config.num_query_heads[stage], config.kernel_sizes[stage]
        own_heads, window = config.num_attention_heads[stage], config.window_sizes[stage]
        params[f"LSAStage_{stage}"] = {
            f"MSA_Block_{index + 1}": block(size, size, **window_attention(size, own_heads, window))
            for index in range(count)
        }
        blocks = {
            f"QnA_Block_{index + 1}": block(size, size, **query_attention(size, size, heads, kernel))
            for index in range(depth - count)
        }
        if stage < last:
            wide = sizes[stage + 1]
            attention = query_attention(size, wide, 2 * heads, kernel)
            shortcut = {"Conv_0": {"kernel": array(1, 1, size, wide)}}
            blocks[f"QnA_Block_{depth - count + 1}_stride_2"] = block(size, wide, **attention, **shortcut)
        params[f"QnAStage_{stage}"] = blocks
    statistics = {"StemBlock_0": {"BatchNorm_0": {"mean": array(sizes[0]), "var": array(sizes[0]) ** 2 + 0.5}}}
    return {"step": 7, "params": params, "batch_stats": statistics, "opt_state": {"0": {"mu": params}}}


def converted(state: dict, **changes):
    return convert("qna", "qna_vit_tiny", state, **TINY["qna"] | changes)


def test_a_training_state_is_read_with_its_statistics():
    state = flax_state()
    model = converted(state)
    norm = model.model.embeddings.projection[1]
    statistics = state["batch_stats"]["StemBlock_0"]["BatchNorm_0"]
    assert np.array_equal(norm.running_mean, statistics["mean"])
    assert np.array_equal(norm.running_var, statistics["var"])
    assert model.config.stem_type == "resnet"
    assert model.config.num_labels == 3


def test_tables_are_resized_to_other_windows_and_kernels():
    state = flax_state()
    model = converted(state, window_sizes=[7, 7, 4], kernel_sizes=[5, 5, 5], image_size=64)
    block = state["params"]["LSAStage_2"]["MSA_Block_1"]["MultiHeadSelfAttention_0"]
    table = torch.from_numpy(block["RelativePositionalEmbedding_0"]["rpe_bias"])
    resized = model.model.stages[2].layers[0].attention.position_bias.table
    torch.testing.assert_close(resized, resize_table(table, (7, 7)))
    assert model.model.stages[1].downsampling.attention.position_bias.shape == (2, 4, 5, 5)
    assert model(torch.rand(1, 3, 64, 64)).logits.isfinite().all()


def test_missing_keys_are_named():
    state = flax_state()
    del state["params"]["QnAStage_0"]["QnA_Block_1"]["FusedKQnA_0"]["query"]
    with pytest.raises(ValueError, match=r"missing: model\.stages\.0\.layers\.0\.attention\.queries"):
        converted(state)
