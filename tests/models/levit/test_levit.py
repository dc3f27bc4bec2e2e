"""What neither golden cases nor conformance show of LeViT."""

import re

import pytest
import torch
from torch import nn
from transformers import LevitConfig as TransformersLevitConfig
from transformers import LevitForImageClassification as TransformersLevitForImageClassification
from transformers import LevitForImageClassificationWithTeacher as TransformersLevitForImageClassificationWithTeacher
from transformers import LevitModel as TransformersLevitModel

import hf_vits
from hf_vits import LevitConfig, LevitForImageClassification, LevitModel
from hf_vits.conversion import convert, from_transformers, to_transformers
from hf_vits.conversion.systems.levit import blocks
from hf_vits.layers.relative_position import DistanceBias

from ...support.hub import tiny_model

SIZES = {"depths": [1, 1, 2], "hidden_sizes": [16, 24, 32], "num_attention_heads": [1, 2, 4], "key_dim": 8}


def images(height: int, width: int) -> torch.Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))


def settled(model: nn.Module) -> nn.Module:
    """The model with batch norms that have seen something, and no weight of them at zero."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model.eval()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("grid", [(5, 4), (3, 4), (1, 1)])
@torch.no_grad()
def test_the_bias_is_that_of_the_distance_in_rows_and_columns(grid, stride):
    bias = DistanceBias((5, 4), num_heads=2, query_stride=stride)
    bias.table.normal_()
    keys = [(row, column) for row in range(grid[0]) for column in range(grid[1])]
    queries = [(row, column) for row, column in keys if row % stride == column % stride == 0]
    expected = torch.stack(
        [torch.stack([bias.table[:, abs(a - c) * 4 + abs(b - d)] for c, d in keys], -1) for a, b in queries], -2
    )
    torch.testing.assert_close(bias(grid), expected[None])


@torch.no_grad()
def test_a_smaller_image_reads_the_biases_of_the_same_distances():
    model = settled(LevitModel(LevitConfig(image_size=80, **SIZES)))
    smaller = LevitModel(LevitConfig(image_size=[40, 72], **SIZES)).eval()
    state = {}
    for name, module in model.named_modules():
        if isinstance(module, DistanceBias):
            nn.init.normal_(module.table)
            rows, columns = smaller.get_submodule(name).grid
            state[f"{name}.table"] = module.table.unflatten(1, module.grid)[:, :rows, :columns].flatten(1)
    smaller.load_state_dict(model.state_dict() | state)
    outputs = model(images(40, 72), output_hidden_states=True)
    assert [tuple(hidden_state.shape[-2:]) for hidden_state in outputs.hidden_states] == [
        (3, 5),
        (3, 5),
        (2, 3),
        (1, 2),
    ]
    expected = smaller(images(40, 72)).last_hidden_state
    torch.testing.assert_close(outputs.last_hidden_state, expected, atol=1e-5, rtol=1e-5)


def test_a_larger_image_is_refused():
    with pytest.raises(ValueError, match=r"33x32 are larger than 32x32.*image_size=32"):
        tiny_model("levit")(images(33, 32))


@pytest.mark.parametrize("distilled", [True, False])
@torch.no_grad()
def test_fuse_folds_every_batch_norm(distilled):
    model = settled(tiny_model("levit", distilled=distilled))
    sizes = [images(32, 32), images(16, 32)]  # biases are kept for the first, not for the second
    before = [model(pixels) for pixels in sizes]
    hf_vits.fuse(model)
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    for pixels, expected in zip(sizes, before, strict=True):
        after = model(pixels)
        assert after.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(after[name], value, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_convolution_takes_up_the_norm_before_it_where_that_is_exact():
    exact = nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 6, 2, stride=2, bias=False), nn.BatchNorm2d(6))
    padded = nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, padding=1))
    maps = torch.randn(2, 4, 6, 6)
    for model, num_left in ((settled(exact), 0), (settled(padded), 1)):
        before = model(maps)
        torch.testing.assert_close(hf_vits.fuse(model)(maps), before, atol=1e-5, rtol=1e-5)
        assert sum(isinstance(module, nn.BatchNorm2d) for module in model) == num_left


def test_both_heads_learn_and_are_averaged():
    model = tiny_model("levit").train()
    outputs = model(images(32, 32), labels=torch.tensor([0, 1]))
    torch.testing.assert_close(outputs.logits, (outputs.cls_logits + outputs.distillation_logits) / 2)
    outputs.loss.backward()
    assert model.distillation_classifier.linear.weight.grad.abs().max() > 0
    alone = tiny_model("levit", distilled=False)(images(32, 32))
    assert alone.cls_logits is None
    assert alone.distillation_logits is None


def test_both_heads_are_made_anew_for_other_classes(tmp_path):
    before = tiny_model("levit")
    before.save_pretrained(tmp_path)
    after = LevitForImageClassification.from_pretrained(tmp_path, num_labels=7, ignore_mismatched_sizes=True)
    assert [after.classifier.linear.out_features, after.distillation_classifier.linear.out_features] == [7, 7]
    assert after(images(32, 32)).logits.shape == (2, 7)
    kept = {key: value for key, value in before.state_dict().items() if "classifier.linear" not in key}
    assert all(torch.equal(value, after.state_dict()[key]) for key, value in kept.items())


def test_a_residual_branch_starts_at_zero():
    torch.manual_seed(0)
    model = LevitForImageClassification(LevitConfig(num_labels=10))
    stage = model.model.stages[1]
    for norm in (
        stage.layers[0].attention.projection.norm,
        stage.layers[0].mlp.down.norm,
        stage.downsampling.mlp.down.norm,
    ):
        assert not norm.weight.any()
    assert (stage.downsampling.attention.projection.norm.weight == 1).all()
    assert model.classifier.linear.weight.std().item() == pytest.approx(0.02, rel=0.05)
    qkv = stage.layers[0].attention.qkv.linear.weight
    assert qkv.abs().max().item() == pytest.approx(qkv.shape[1] ** -0.5, rel=1e-2)


@pytest.mark.parametrize(
    "their_class",
    [
        TransformersLevitModel,
        TransformersLevitForImageClassification,
        TransformersLevitForImageClassificationWithTeacher,
    ],
)
@torch.no_grad()
def test_transformers_layout_goes_both_ways(their_class):
    sizes = SIZES | {"key_dim": [8, 16, 4]}
    theirs = settled(their_class(TransformersLevitConfig(image_size=80, num_labels=5, **sizes)))
    for name, parameter in theirs.named_parameters():
        if name.endswith("attention_biases"):
            nn.init.normal_(parameter)
    ours, expected = from_transformers(theirs), theirs(images(80, 80))
    back = to_transformers(ours)
    assert back.state_dict().keys() == theirs.state_dict().keys()
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in back.state_dict().items())
    outputs = ours(images(80, 80))
    for name in {
        "logits",
        "cls_logits",
        "distillation_logits",
        "last_hidden_state",
        "pooler_output",
    } & expected.keys():
        torch.testing.assert_close(outputs[name], expected[name], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("fields", [{"key_dim": [8, 16, 4]}, {"downsampling_key_dim": 4}], ids=str)
def test_channels_of_heads_are_read_from_the_file(fields):
    """By transformers' keys, which become the original's, and by the original's."""
    ours = tiny_model("levit", depths=[1, 1, 2], **fields)
    tensors = {key: value.detach() for key, value in ours.state_dict().items()}
    original = {old(key, ours.config): value for key, value in tensors.items()}
    back = convert("levit", "LeViT_128S", original)
    assert back.config.key_dims == ours.config.key_dims
    assert back.config.downsampling_key_dim == ours.config.downsampling_key_dim
    assert all(torch.equal(value, tensors[key]) for key, value in back.state_dict().items())


def old(key: str, config) -> str:
    """The original's name of one of our tensors."""
    for index, (place, is_residual) in enumerate(blocks(config)):
        key = key.replace(place, f"blocks.{index}.m." if is_residual else f"blocks.{index}.")
    key = re.sub(
        r"^model\.embeddings\.projection\.(\d)\.(\d)\.",
        lambda m: f"patch_embed.{2 * int(m[1])}.{['c', 'bn'][int(m[2])]}.",
        key,
    )
    names = {
        "position_bias.table": "attention_biases",
        ".up.": ".0.",
        ".down.": ".2.",
        "key_value.": "kv.",
        "query.": "q.1.",
    }
    for ours, theirs in (names | {"projection.": "proj.1.", "distillation_classifier.": "head_dist."}).items():
        key = key.replace(ours, theirs)
    head = key.startswith(("classifier", "head_dist"))
    key = key.replace("classifier.", "head.").replace(".linear.", ".l." if head else ".c.")
    return key.replace(".norm.", ".bn.")


def test_what_transformers_or_the_original_lacks_is_refused():
    with pytest.raises(ValueError, match="hidden_act='hardswish'"):
        to_transformers(tiny_model("levit", hidden_act="gelu"))
    with pytest.raises(ValueError, match="square images"):
        to_transformers(tiny_model("levit", image_size=[32, 48]))
    with pytest.raises(ValueError, match="stem of LeViT has padding=1"):
        from_transformers(TransformersLevitModel(TransformersLevitConfig(padding=2)))
    with pytest.raises(ValueError, match="one attention_ratio for all stages"):
        from_transformers(TransformersLevitModel(TransformersLevitConfig(attention_ratio=[2, 2, 4])))
    with pytest.raises(ValueError, match="downsampling_key_dim=None"):
        to_transformers(tiny_model("levit", downsampling_key_dim=4))


def test_biases_of_another_image_size_are_not_resized():
    checkpoint = {"blocks.0.m.attention_biases": torch.zeros(4, 196)}
    with pytest.raises(ValueError, match=r"biases for image_size=224, which cannot be resized to \(256, 256\)"):
        convert("levit", "LeViT_128S", checkpoint, image_size=256)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_sizes": [100, 256, 384]}, "multiple of 8"),
        ({"key_dim": [8, 8]}, "one value or one per stage"),
        ({"key_dim": 200}, "hidden_sizes must not be below key_dim"),
        ({"num_attention_heads": [4, 8]}, "num_attention_heads needs one value per stage"),
        ({"mlp_ratio": 0}, "mlp_ratio must be positive"),
    ],
)
def test_fields_that_do_not_fit_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        LevitConfig(**fields)
