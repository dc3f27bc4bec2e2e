"""LG-Transformer, of which there is no original: its published size, its reach, and Swin as a special case."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import SwinTransformer

from hf_vits.cli.models import variant_model
from hf_vits.conversion import convert
from hf_vits.models.lg_transformer.configuration_lg_transformer import LgTransformerConfig
from hf_vits.models.lg_transformer.modeling_lg_transformer import (
    LgTransformerForImageClassification,
    LgTransformerModel,
)

SMALL = {
    "depths": [2, 2],
    "hidden_sizes": [16, 32],
    "num_attention_heads": [2, 4],
    "window_size": 4,
    "path_strides": [[1, 2, 4], [1, 2]],
    "num_labels": 5,
}


def small_model(**fields) -> LgTransformerForImageClassification:
    torch.manual_seed(0)
    model = LgTransformerForImageClassification(LgTransformerConfig(**SMALL | fields)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    return model


def images(*size: int, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(1))


def test_the_size_of_lg_t_is_the_papers_within_a_percent():
    model = variant_model("lg_transformer", "lg_t")
    assert model.num_parameters() / 1e6 == pytest.approx(32.6, rel=0.01)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, 3, 224, 224, device="meta"))
    assert counter.get_total_flops() / 2e9 == pytest.approx(4.8, rel=0.01)


def changed_tokens(strides: list[int]) -> torch.Tensor:
    """Where a layer of the first stage changes its output, (64, 64) tokens, if one token of its input changes."""
    torch.manual_seed(0)
    layer = small_model(path_strides=[strides, [1]]).model.stages[0].layers[0]
    tokens = torch.randn(1, 16 * 16, 16)
    changed = tokens.clone()
    changed[0, 16 * 5 + 6, 0] += 1
    with torch.no_grad():
        difference = layer(tokens, (16, 16), None) - layer(changed, (16, 16), None)
    return difference.abs().amax(dim=2).view(16, 16) > 0


def test_every_layer_reaches_the_whole_map_by_its_coarsest_path():
    assert changed_tokens([1, 2, 4]).all()


def test_a_path_of_stride_one_reaches_its_window():
    reached = torch.zeros(16, 16, dtype=torch.bool)
    reached[4:8, 4:8] = True
    assert torch.equal(changed_tokens([1]), reached)


@torch.no_grad()
def test_one_path_of_stride_one_is_swin_weight_for_weight():
    torch.manual_seed(0)
    options = {"embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": [4, 4], "num_classes": 5}
    swin = SwinTransformer(patch_size=[4, 4], **options).eval()
    for parameter in swin.parameters():
        parameter.normal_(std=0.2)
    model = small_model(path_strides=[[1], [1]], shift_windows=True)
    ours = model.state_dict()
    renamings = {
        "features.0.0.": "model.embeddings.projection.",
        "features.0.2.": "model.embeddings.norm.",
        "features.1.": "model.stages.0.layers.",
        "features.2.": "model.stages.1.merging.",
        "features.3.": "model.stages.1.layers.",
        ".norm1.": ".attention_norm.",
        ".attn.relative_position_bias_table": ".paths.0.attention.position_bias.table",
        ".attn.qkv.": ".paths.0.attention.qkv.",
        ".attn.proj.": ".paths.0.attention.projection.",
        ".norm2.": ".mlp_norm.",
        ".mlp.0.": ".mlp.up.",
        ".mlp.3.": ".mlp.down.",
        "head.": "classifier.",
    }
    for key, value in swin.state_dict().items():
        if key.endswith("relative_position_index"):
            continue
        key = f"model.{key}" if key.startswith("norm.") else key
        for theirs, own in renamings.items():
            key = key.replace(theirs, own)
        ours[key].copy_(value)
    for size in ((64, 64), (56, 76)):
        torch.testing.assert_close(model(images(*size)).logits, swin(images(*size)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("fields", [{}, {"path_pooling": "convolution", "path_interpolation": "nearest"}])
@torch.no_grad()
def test_sizes_that_nothing_divides_are_padded(fields):
    model = small_model(**fields)
    outputs = model.model(images(50, 37), output_hidden_states=True)
    assert [tuple(map_.shape[-2:]) for map_ in outputs.hidden_states] == [(12, 9), (12, 9), (6, 5)]
    assert outputs.pooler_output.isfinite().all()
    assert model(images(4, 4)).logits.isfinite().all()
    with pytest.raises(ValueError, match=r"3x8: height and width must be at least 4"):
        model(images(3, 8))


@pytest.mark.parametrize(
    ("field", "value"), [("path_pooling", "convolution"), ("path_interpolation", "nearest"), ("shift_windows", True)]
)
@torch.no_grad()
def test_what_is_assumed_can_be_changed(field, value):
    plain, other = small_model().model, small_model(**{field: value}).model
    other.load_state_dict(plain.state_dict(), strict=False)
    before, after = (model(images(64, 64)).last_hidden_state for model in (plain, other))
    assert (before - after).abs().max() > 1e-3


@torch.no_grad()
def test_files_are_read_under_our_own_keys():
    model = small_model()
    fields = {key: value for key, value in SMALL.items() if key != "num_labels"}
    converted = convert("lg_transformer", "lg_t", {"model": model.state_dict()}, **fields)
    assert torch.equal(converted(images(64, 64)).logits, model(images(64, 64)).logits)


def test_initialisation_is_swins():
    model = LgTransformerModel(LgTransformerConfig())
    attention = model.stages[2].layers[0].paths[1].attention
    assert attention.position_bias.table.std().item() == pytest.approx(0.02, rel=0.1)
    assert attention.qkv.weight.std().item() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"path_strides": [[1]]}, "path_strides needs one value per stage"),
        ({"path_strides": [[1], []]}, "at least one stride per stage"),
        ({"path_strides": [[1], [0]]}, "each at least 1"),
        ({"window_size": 0}, "window_size must be positive"),
        ({"hidden_sizes": [16, 30]}, "multiple of its num_attention_heads"),
    ],
)
def test_illegal_configurations_name_the_field(fields, message):
    with pytest.raises(ValueError, match=message):
        LgTransformerConfig(**SMALL | fields)
