"""What neither golden cases nor conformance show of CvT."""

import re

import pytest
import torch
from torch import nn
from transformers import CvtConfig as TransformersCvtConfig
from transformers import CvtForImageClassification as TransformersCvtForImageClassification
from transformers import CvtModel as TransformersCvtModel

import hf_vits
from hf_vits import CvtConfig, CvtForImageClassification
from hf_vits.conversion import convert, from_transformers, to_transformers

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
    kernels = {"kernel_qkv": [3, 5, 1], "padding_q": [1, 2, 0], "padding_kv": [1, 2, 0], "stride_kv": [1, 1, 1]}
    theirs = settled(their_class(TransformersCvtConfig(embed_dim=[16, 24, 32], num_heads=[1, 2, 4], **kernels)))
    ours = from_transformers(theirs)
    back = to_transformers(ours)
    assert back.state_dict().keys() == theirs.state_dict().keys()
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in back.state_dict().items())
    if isinstance(ours, CvtForImageClassification):
        torch.testing.assert_close(ours(IMAGES).logits, theirs(IMAGES).logits, atol=1e-5, rtol=1e-5)
    else:
        ours_last, their_last = ours(IMAGES).last_hidden_state[:, 1:], theirs(IMAGES).last_hidden_state
        torch.testing.assert_close(ours_last, their_last.flatten(2).transpose(1, 2), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"padding_q": [0, 0, 0]}, "padding_q"),
        ({"stride_q": [2, 2, 2]}, "stride_q"),
        ({"stride_kv": [2, 2, 1]}, "one stride_kv for all stages"),
        ({"qkv_projection_method": ["avg"] * 3}, "qkv_projection_method"),
    ],
)
def test_projections_that_ours_lacks_are_refused(fields, message):
    theirs = TransformersCvtModel(TransformersCvtConfig(embed_dim=[16, 24, 32], num_heads=[1, 2, 4], **fields))
    with pytest.raises(ValueError, match=message):
        from_transformers(theirs)


@pytest.mark.parametrize("fields", [{}, {"window_size": 4, "use_class_token": False}], ids=["plain", "windows"])
def test_kernels_are_read_from_the_file(fields):
    """Of the authors' file, or of EsViT's."""
    sizes = {"depths": [1, 1], "hidden_sizes": [16, 32], "num_attention_heads": [1, 2], "mlp_ratios": [2, 2]}
    patches = {"patch_sizes": [7, 3], "patch_strides": [4, 2], "patch_paddings": [2, 1]}
    model = CvtForImageClassification(CvtConfig(**sizes, **patches, projection_kernel_sizes=[5, 3], **fields))
    tensors = {}
    for key, value in model.state_dict().items():
        if "window_size" in fields:
            key = re.sub(r"^model\.embeddings\.", "stage0.0.", key.replace("embeddings.projection", "embeddings.proj"))
            key = re.sub(r"^model\.stages\.(\d+)\.embeddings\.", r"stage\1.0.", key)
            key = re.sub(r"^model\.stages\.(\d+)\.layers\.", r"stage\1.1.layers.", key)
            names = {"attention.convolution.0": "0.fn.qkv.dw", "attention.convolution.1": "0.fn.qkv.bn"}
            names |= {"attention.qkv": "0.fn.qkv.pw", "attention.projection": "0.fn.proj_out"}
            names |= {"attention_norm": "0.norm", "mlp_norm": "1.norm", "mlp.up": "1.fn.net.0"}
            names |= {"mlp.down": "1.fn.net.2", "model.norm": "norm", "classifier": "head"}
        else:
            key = re.sub(r"^model\.embeddings\.", "stage0.embeddings.", key)
            key = re.sub(r"^model\.stages\.", "stage", key)
            names = {"embeddings.projection": "patch_embed.proj", "embeddings.norm": "patch_embed.norm"}
            names |= {"layers": "blocks", "attention_norm": "norm1", "mlp_norm": "norm2", "attention.": "attn."}
            names |= {"mlp.up": "mlp.fc1", "mlp.down": "mlp.fc2", "attn.projection": "attn.proj"}
            for name in ("query", "key", "value"):
                names |= {f"attn.{name}_reduction.0": f"attn.conv_proj_{name[0]}.conv"}
                names |= {f"attn.{name}_reduction.1": f"attn.conv_proj_{name[0]}.bn"}
                names |= {"class_token": "cls_token"}
            names |= {f"attn.{name}.": f"attn.proj_{name[0]}." for name in ("query", "key", "value")}
            names |= {"model.norm": "norm", "classifier": "head"}
        for ours, original in names.items():
            key = key.replace(ours, original)
        tensors[key] = value.detach()
    system, variant = ("esvit", "cvt_tiny_window7") if fields else ("cvt", "cvt-13-224x224")
    given = {"num_attention_heads": [1, 2], "patch_strides": [4, 2], "patch_paddings": [2, 1]} | fields
    back = convert(system, variant, tensors, **given)
    assert list(back.config.projection_kernel_sizes) == [5, 3]
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in back.state_dict().items())


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
        ({"projection_kernel_sizes": [3, 4, 3]}, "an odd number per stage"),
        ({"drop_path_rate": 1.0}, "drop_path_rate must lie in"),
    ],
)
def test_fields_that_do_not_fit_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        CvtConfig(**fields)
