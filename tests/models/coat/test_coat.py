"""CoaT beyond what the golden cases show: shared tensors, detectors' files, floored sizes, errors, timm."""

import pytest
import timm.models.coat
import torch

from hf_vits.conversion import convert, processor, variants
from hf_vits.models.coat.configuration_coat import CoatConfig
from hf_vits.models.coat.modeling_coat import CoatBackbone, CoatForImageClassification, CoatModel

SMALL = {
    "depths": [1, 2, 1, 1],
    "hidden_sizes": [16, 24, 24, 24],
    "num_parallel_layers": 2,
    "mlp_ratios": [2, 2, 2, 2],
    "num_attention_heads": 4,
    "relative_window_heads": [1, 1, 2],
}


def randomise(model: torch.nn.Module) -> torch.nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    return model.eval()


def classifier(**fields) -> CoatForImageClassification:
    return randomise(CoatForImageClassification(CoatConfig(num_labels=5, **SMALL | fields)))


def small_peer() -> timm.models.coat.CoaT:
    """timm's model of the size of `SMALL`, whose state dict has the original's keys."""
    return randomise(
        timm.models.coat.CoaT(
            img_size=64,
            patch_size=4,
            serial_depths=SMALL["depths"],
            embed_dims=SMALL["hidden_sizes"],
            parallel_depth=SMALL["num_parallel_layers"],
            mlp_ratios=SMALL["mlp_ratios"],
            num_heads=SMALL["num_attention_heads"],
            crpe_window=dict(zip((3, 5, 7), SMALL["relative_window_heads"], strict=True)),
            num_classes=5,
        )
    )


def checkpoint_of(peer: timm.models.coat.CoaT) -> dict[str, torch.Tensor]:
    """As the original saves it: with the norms that it does not use, which timm leaves out."""
    checkpoint = {key: value.clone() for key, value in peer.state_dict().items()}
    for scale, size in enumerate(peer.embed_dims, start=1):
        if f"norm{scale}.weight" not in checkpoint:
            checkpoint |= {f"norm{scale}.weight": torch.ones(size), f"norm{scale}.bias": torch.zeros(size)}
    return checkpoint


def images(*size: int, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("repeated", ["first", "last", "all"])
@torch.no_grad()
def test_shared_tensors_convert_whatever_name_they_have(repeated):
    """A file may hold a shared tensor under all its names, or under any one of them."""
    peer = small_peer()
    checkpoint = checkpoint_of(peer)
    names: dict[int, list[str]] = {}
    for key, value in peer.state_dict().items():
        names.setdefault(value.data_ptr(), []).append(key)
    assert max(map(len, names.values())) == 5
    for same in names.values():
        dropped = {"first": same[1:], "last": same[:-1], "all": []}[repeated]
        for key in dropped:
            del checkpoint[key]
    model = convert("coat", "coat_tiny", {"model": checkpoint}, **SMALL)
    assert model.config.num_labels == 5
    torch.testing.assert_close(model(images(64, 64)).logits, peer(images(64, 64)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "key",
    [
        "serial_blocks2.1.cpe.proj.weight",
        "serial_blocks1.0.factoratt_crpe.crpe.conv_list.0.bias",
        "parallel_blocks.1.factoratt_crpe4.crpe.conv_list.2.weight",
        "parallel_blocks.1.mlp4.fc1.bias",
    ],
)
def test_names_of_one_tensor_that_disagree_are_an_error(key):
    checkpoint = checkpoint_of(small_peer())
    checkpoint[key] += 1e-3
    with pytest.raises(ValueError, match="both should be one shared tensor"):
        convert("coat", "coat_tiny", checkpoint)


@pytest.mark.parametrize("prefix", ["backbone.0.backbone.", "backbone.bottom_up.backbone.", "backbone.", ""])
@torch.no_grad()
def test_a_detectors_file_gives_its_backbone(prefix):
    peer = small_peer()
    head = ("norm", "aggregate", "head")
    encoder = {key: value for key, value in peer.state_dict().items() if not key.startswith(head)}
    file = {f"{prefix}{key}": value for key, value in encoder.items()}
    if prefix:
        file |= {"transformer.level_embed": torch.zeros(4, 8), "norm.weight": torch.ones(8)}
    backbone = convert("coat", "coat_tiny", {"model": file}, **SMALL)
    assert isinstance(backbone, CoatBackbone)
    expected = peer.forward_intermediates(images(64, 64), intermediates_only=True)
    torch.testing.assert_close(list(backbone(images(64, 64)).feature_maps), expected, atol=1e-5, rtol=1e-5)
    last = convert("coat", "coat_tiny", {"model": file}, **SMALL, out_features=["stage4"])
    torch.testing.assert_close(last(images(64, 64)).feature_maps[0], expected[-1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("parallel", [0, 2])
@torch.no_grad()
def test_sides_that_patches_do_not_fill_are_floored(parallel):
    model = classifier(num_parallel_layers=parallel)
    whole = images(107, 74)
    outputs = model.model(whole)
    assert [tuple(map_.shape[-2:]) for map_ in outputs.feature_maps] == [(26, 18), (13, 9), (6, 4), (3, 2)]
    assert outputs.last_hidden_state.shape == (2, 1 + 3 * 2, 24)
    cropped = model.model(whole[..., :104, :72])
    torch.testing.assert_close(cropped.pooler_output, outputs.pooler_output)


def test_images_without_a_token_at_the_last_scale_are_refused():
    model = classifier()
    assert model(images(32, 40)).logits.isfinite().all()
    with pytest.raises(ValueError, match=r"31x40 pixels .* at least 32"):
        model(images(31, 40))


@torch.no_grad()
def test_maps_of_a_backbone_come_after_the_parallel_layers():
    model = classifier()
    backbone = CoatBackbone(CoatConfig(**SMALL, out_features=["stem", "stage1", "stage3"])).eval()
    backbone.load_state_dict(model.state_dict(), strict=False)
    stem, first, third = backbone(images(64, 64)).feature_maps
    outputs = model.model(images(64, 64), output_hidden_states=True)
    assert torch.equal(stem, outputs.hidden_states[0])
    assert torch.equal(first, outputs.hidden_states[1])
    assert torch.equal(third, outputs.feature_maps[2])
    assert not torch.allclose(third, outputs.hidden_states[3], atol=1e-2)


@torch.no_grad()
def test_computes_what_timm_computes():
    peer = timm.create_model("coat_lite_tiny").eval()
    ours = convert("coat", "coat_lite_tiny", checkpoint_of(peer))
    torch.testing.assert_close(ours(images(224, 224)).logits, peer(images(224, 224)), atol=2e-5, rtol=0)


def test_gradient_checkpointing_reaches_every_scale():
    model = classifier(drop_path_rate=0.0).train()
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": True})
        model.zero_grad()
        model(images(64, 64), labels=torch.tensor([1, 4])).loss.backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert model.state_dict().keys() - gradients[0].keys() == {
        "model.pooler.norms.0.weight",
        "model.pooler.norms.0.bias",
    }
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


@pytest.mark.parametrize(
    ("variant", "shortest_edge", "size"), [("coat_mini", 256, 224), ("coat_lite_medium_384x384", 438, 384)]
)
def test_image_processor_crops_as_the_original(variant, shortest_edge, size):
    with torch.device("meta"):
        model = CoatModel(CoatConfig(**variants("coat")[variant]))
    made = processor("coat", variant, model)
    assert made.size.shortest_edge == shortest_edge
    assert made.crop_size.height == size


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_attention_heads": 7}, "multiple of num_attention_heads"),
        ({"relative_window_heads": [1, 1, 1]}, "add up to num_attention_heads=4"),
        ({"relative_window_sizes": [3, 5, 6]}, "odd numbers"),
        ({"relative_window_sizes": [3, 5]}, "one for each"),
        ({"num_parallel_layers": -1}, "num_parallel_layers"),
        ({"hidden_sizes": [16, 16, 24, 24]}, "the same hidden_sizes"),
        ({"mlp_ratios": [2, 4, 2, 2]}, "the same mlp_ratios"),
        ({"mlp_ratios": [2, 2, 2]}, "one value per stage"),
        ({"drop_path_rate": 1.0}, "drop_path_rate"),
    ],
)
def test_illegal_configurations_name_the_field(fields, message):
    with pytest.raises(ValueError, match=message):
        CoatConfig(**SMALL | fields)
