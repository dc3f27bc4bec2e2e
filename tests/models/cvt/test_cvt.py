"""What neither golden cases nor conformance show of CvT."""

import pytest
import torch
from torch import nn
from transformers import CvtConfig as TransformersCvtConfig
from transformers import CvtForImageClassification as TransformersCvtForImageClassification
from transformers import CvtModel as TransformersCvtModel

import hf_vits
from hf_vits import CvtConfig, CvtForImageClassification
from hf_vits.conversion import from_transformers, to_transformers

from ...support.hub import tiny_model

IMAGES = torch.rand(2, 3, 33, 47, generator=torch.Generator().manual_seed(0))


def settled(model: nn.Module) -> nn.Module:
    """The model with batch norms that have seen something."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model.eval()


@torch.no_grad()
def test_odd_maps_round_up_and_every_size_runs():
    outputs = tiny_model("cvt")(IMAGES, output_hidden_states=True)
    assert [tuple(hidden_state.shape[-2:]) for hidden_state in outputs.hidden_states] == [
        (8, 12),
        (8, 12),
        (4, 6),
        (2, 3),
    ]


@torch.no_grad()
def test_fuse_folds_every_batch_norm():
    model = settled(tiny_model("cvt"))
    before = model(IMAGES).logits
    hf_vits.fuse(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    torch.testing.assert_close(model(IMAGES).logits, before, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("their_class", [TransformersCvtModel, TransformersCvtForImageClassification])
@torch.no_grad()
def test_transformers_layout_goes_both_ways(their_class):
    theirs = settled(their_class(TransformersCvtConfig(embed_dim=[16, 24, 32], num_heads=[1, 2, 4])))
    ours = from_transformers(theirs)
    back = to_transformers(ours)
    assert back.state_dict().keys() == theirs.state_dict().keys()
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in back.state_dict().items())
    if isinstance(ours, CvtForImageClassification):
        torch.testing.assert_close(ours(IMAGES).logits, theirs(IMAGES).logits, atol=1e-5, rtol=1e-5)
    else:
        ours_last, their_last = ours(IMAGES).last_hidden_state[:, 1:], theirs(IMAGES).last_hidden_state
        torch.testing.assert_close(ours_last, their_last.flatten(2).transpose(1, 2), atol=1e-5, rtol=1e-5)


def test_an_activation_that_transformers_lacks_is_refused():
    with pytest.raises(ValueError, match="hidden_act='gelu'"):
        to_transformers(tiny_model("cvt"))


@torch.no_grad()
def test_keys_and_values_can_be_averages_of_windows():
    model = tiny_model("cvt", key_value_projection="average", attn_implementation="eager")
    attentions = model(IMAGES, output_attentions=True).attentions
    assert attentions[0].shape == (2, 1, 8 * 12, 5 * 7)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"depths": [1, 2]}, "hidden_sizes needs one value per stage"),
        ({"num_attention_heads": [1, 5, 6]}, "multiple of its num_attention_heads"),
        ({"drop_path_rate": 1.0}, "drop_path_rate must lie in"),
    ],
)
def test_fields_that_do_not_fit_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        CvtConfig(**fields)
