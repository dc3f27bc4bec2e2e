"""What neither golden cases nor conformance show of CMT."""

import pytest
import torch
from torch import nn

import hf_vits
from hf_vits import CmtConfig, CmtForImageClassification
from hf_vits.conversion.systems.cmt import FitPositionBias

from ...support.hub import tiny_model

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def settled(model: nn.Module) -> nn.Module:
    """The model with batch norms that have seen something."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model.eval()


def test_another_size_is_refused_and_told_what_to_do():
    with pytest.raises(ValueError, match=r"64x32 do not fit this model, whose position biases are for 32x32 alone"):
        tiny_model("cmt")(torch.zeros(1, 3, 64, 32))


@torch.no_grad()
def test_images_may_be_wide():
    outputs = tiny_model("cmt", image_size=[32, 64])(torch.zeros(1, 3, 32, 64), output_hidden_states=True)
    sizes = [tuple(hidden_state.shape[-2:]) for hidden_state in outputs.hidden_states]
    assert sizes == [(8, 16), (8, 16), (4, 8), (2, 4), (1, 2)]


@torch.no_grad()
def test_fuse_folds_the_batch_norms_that_stand_beside_a_linear_map():
    model = settled(tiny_model("cmt"))
    before = model(IMAGES).logits
    hf_vits.fuse(model)
    left = [name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)]
    # Between an activation and a convolution with a border, or patches that other modules hold.
    assert all(".stem." in name or ".expansion." in name for name in left)
    torch.testing.assert_close(model(IMAGES).logits, before, atol=1e-4, rtol=1e-4)


def test_biases_are_resized_along_queries_and_keys_apart():
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    keys = torch.arange(4.0)
    bias = ((rows + 10 * columns).flatten()[:, None] + 100 * keys)[None]
    resized = FitPositionBias((16, 16), (4, 4)).convert({"bias": [bias]}, ["bias"], ["bias"])["bias"]
    assert resized.shape == (1, 256, 16)
    upsample = nn.Upsample(scale_factor=2, mode="bicubic")
    over_queries = upsample((rows + 10 * columns)[None, None]).flatten()
    over_keys = 100 * upsample(keys.view(1, 1, 2, 2)).flatten()
    torch.testing.assert_close(resized[0], over_queries[:, None] + over_keys, atol=1e-3, rtol=1e-5)


def test_initialisation_is_the_originals():
    torch.manual_seed(0)
    model = CmtForImageClassification(CmtConfig(num_labels=10))
    stage = model.model.stages[2]
    assert stage.position_bias.std().item() == pytest.approx(1, rel=0.02)
    depthwise = stage.layers[0].feed_forward.depthwise
    assert depthwise.weight.std().item() == pytest.approx((2 / (9 * depthwise.out_channels)) ** 0.5, rel=0.05)
    assert not depthwise.bias.any()
    assert stage.layers[0].attention.query.weight.std().item() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_size": 200}, "image_size must be a multiple of 32"),
        ({"image_size": [224, 100]}, "image_size must be a multiple of 32"),
        ({"num_attention_heads": [1, 3, 4, 8]}, "multiple of its num_attention_heads"),
        ({"sequence_reduction_ratios": [8, 4, 2]}, "sequence_reduction_ratios needs one value per stage"),
    ],
)
def test_fields_that_do_not_fit_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        CmtConfig(**fields)
