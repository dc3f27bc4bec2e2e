"""Taps look into every kind of model in the same way, and leave its outputs as they are."""

import functools

import pytest
import timm
import torch
import transformers as hf

import hf_vits
from hf_vits.analysis.taps import Recording, find_blocks, record, tapped

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
}
TIMM = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
TIMM_SWIN = {"img_size": 32, "window_size": 4, "embed_dim": 16, "depths": (2, 2), "num_heads": (2, 2)}
SWIN = {"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 2], "window_size": 4}
RESNET = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [2, 2], "layer_type": "basic"}
BUILD = {
    "vit": lambda: hf.ViTModel(hf.ViTConfig(**SIZES)),
    "vit_classifier": lambda: hf.ViTForImageClassification(hf.ViTConfig(**SIZES)),
    "deit": lambda: hf.DeiTModel(hf.DeiTConfig(**SIZES)),
    "dinov2": lambda: hf.Dinov2Model(hf.Dinov2Config(**SIZES)),
    "clip": lambda: hf.CLIPVisionModel(hf.CLIPVisionConfig(**SIZES)),
    "beit": lambda: hf.BeitModel(hf.BeitConfig(**SIZES, use_relative_position_bias=True)),
    "mae": lambda: hf.ViTMAEModel(hf.ViTMAEConfig(**SIZES)),
    "swin": lambda: hf.SwinModel(hf.SwinConfig(**SWIN)),
    "our_vit": lambda: hf_vits.ViTModel(hf_vits.ViTConfig(**SIZES)),
    "our_swin": lambda: hf_vits.SwinModel(
        hf_vits.SwinConfig(
            image_size=32, hidden_sizes=[16, 32], depths=[2, 2], num_attention_heads=[2, 2], squeeze_sizes=[4, 4]
        )
    ),
    "timm_vit": lambda: timm.create_model("vit_tiny_patch16_224", **TIMM),
    "timm_beit": lambda: timm.create_model("beit_base_patch16_224", **TIMM),
    "timm_swin": lambda: timm.create_model("swin_tiny_patch4_window7_224", **TIMM_SWIN),
    "wrapped_timm_vit": lambda: hf.TimmWrapperModel(
        hf.TimmWrapperConfig(architecture="vit_tiny_patch16_224", model_args=TIMM)
    ),
}
NETWORKS = {
    "resnet": lambda: hf.ResNetModel(hf.ResNetConfig(**RESNET)),
    "timm_resnet": lambda: timm.create_model("resnet10t"),
}
PREFIX = {"deit": 2, "swin": 0, "our_swin": 0, "timm_swin": 0}
FACETS = ("blocks", "attention_inputs", "queries", "keys", "values", "attention_scores", "attentions")
FACETS = (*FACETS, "attention_branches", "mlp_branches", "norm1", "norm2")


@functools.cache
def model_and_recording(name: str) -> tuple[torch.nn.Module, Recording]:
    torch.manual_seed(0)
    model = (BUILD | NETWORKS)[name]().eval()
    return model, record(model, images(), FACETS if name in BUILD else ["blocks", "mlp_branches"])


def images() -> torch.Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def values(output) -> torch.Tensor:
    if isinstance(output, torch.Tensor):
        return output
    return output.logits if "logits" in output else output.last_hidden_state


@pytest.mark.parametrize("name", BUILD)
def test_what_is_recorded_is_what_the_model_computes(name):
    model, seen = model_and_recording(name)
    for layer in range(len(find_blocks(model))):
        query, key, probabilities = (getattr(seen, f)[layer] for f in ("queries", "keys", "attentions"))
        scores = query @ key.mT * query.shape[-1] ** -0.5
        if "beit" not in name and "swin" not in name:  # these add a bias
            torch.testing.assert_close(seen.attention_scores[layer], scores)
        torch.testing.assert_close(seen.attention_scores[layer].softmax(-1), probabilities)
        attention, mlp = seen.attention_branches[layer], seen.mlp_branches[layer]
        torch.testing.assert_close(attention.skip + attention.branch, mlp.skip)
        torch.testing.assert_close(mlp.skip + mlp.branch, seen.blocks[layer])
        if layer and attention.skip.shape == seen.blocks[layer - 1].shape:
            torch.testing.assert_close(attention.skip, seen.blocks[layer - 1])
        centred = mlp.skip - mlp.skip.mean(dim=-1, keepdim=True)
        cosine = torch.cosine_similarity(seen.norm2[layer], centred, dim=-1)
        torch.testing.assert_close(cosine, torch.ones_like(cosine))
        assert seen.norm1[layer].shape == attention.skip.shape
        rows, columns = seen.grids[layer]
        assert seen.blocks[layer].shape[1] == rows * columns + seen.num_prefix_tokens
    assert seen.num_prefix_tokens == PREFIX.get(name, 1)


@pytest.mark.parametrize("name", [name for name in BUILD if name != "mae"])
def test_the_output_does_not_change(name):
    model, seen = model_and_recording(name)
    with torch.no_grad():
        torch.testing.assert_close(values(model(images())), values(seen.output))


@pytest.mark.parametrize("name", NETWORKS)
def test_blocks_of_convolutional_networks(name):
    _, seen = model_and_recording(name)
    for block, (skip, branch), (rows, columns) in zip(seen.blocks, seen.mlp_branches, seen.grids, strict=True):
        torch.testing.assert_close((skip + branch).relu(), block)
        assert block.shape[1] == rows * columns


@pytest.mark.parametrize("name", ["vit", "timm_swin", "resnet"])
def test_a_removed_branch_leaves_the_skip_input(name):
    model, seen = model_and_recording(name)
    with torch.no_grad(), tapped(model, ["blocks"], [-1], {"mlp_branches": lambda branch, layer: 0 * branch}) as taps:
        model(images())
    (block,) = taps.kept["blocks"].values()
    expected = seen.mlp_branches[-1].skip
    torch.testing.assert_close(block, expected.relu() if name == "resnet" else expected)


def test_restricted_attention_attends_nowhere_else():
    model, _ = model_and_recording("our_vit")
    forbidden = torch.arange(17) > 8
    edits = {"attention_scores": lambda scores, layer: scores.masked_fill(forbidden, -torch.inf)}
    with torch.no_grad(), tapped(model, ["attentions"], edits=edits) as taps:
        model(images())
    for attention in taps.kept["attentions"].values():
        assert not attention[..., forbidden].any()
        torch.testing.assert_close(attention.sum(-1), torch.ones(2, 2, 17))


def test_gradients_flow_only_when_asked_for():
    model, seen = model_and_recording("vit")
    pixels = images().requires_grad_()
    record(model, pixels, "attentions", gradients=True).attentions[1][..., 0].sum().backward()
    assert pixels.grad is not None
    assert pixels.grad.abs().sum() > 0
    assert not seen.blocks[0].requires_grad


def test_a_missing_facet_is_named():
    model, _ = model_and_recording("resnet")
    with pytest.raises(ValueError, match="ResNetModel has no keys in block 0, a ResNetBasicLayer"):
        record(model, images(), "keys")
    with pytest.raises(ValueError, match="got patches"):
        record(model, images(), "patches")
    with pytest.raises(ValueError, match="blocks 0 to 3"):
        record(model, images(), "blocks", layers=[4])
    with pytest.raises(ValueError, match="found no blocks in Linear"):
        find_blocks(torch.nn.Linear(2, 2))
