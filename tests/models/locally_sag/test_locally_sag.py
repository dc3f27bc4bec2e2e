"""What neither golden cases nor conformance show of Locally-SAG."""

import pytest
import torch

from hf_vits import LocallySagConfig, LocallySagForImageClassification
from hf_vits.conversion import convert
from hf_vits.conversion.systems.locally_sag import processor
from hf_vits.models.locally_sag.modeling_locally_sag import SHIFTS, continued, rolled

from ...support.hub import TINY, tiny_model

IMAGES = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
CIFAR = {"patch_size": 3, "patch_stride": 1, "patch_padding": 1, "shift_type": "roll", "multi_query": True}


@pytest.mark.parametrize("fields", [{}, CIFAR], ids=["imagenet", "cifar"])
@torch.no_grad()
def test_a_single_image_gives_what_it_gives_in_a_batch(fields):
    model = tiny_model("locally_sag", **fields)
    alone = torch.cat([model(image[None]).logits for image in IMAGES])
    torch.testing.assert_close(alone, model(IMAGES).logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("fields", [{}, CIFAR], ids=["imagenet", "cifar"])
@torch.no_grad()
def test_the_first_layer_attends_over_shifts_and_the_others_over_places(fields):
    model = tiny_model("locally_sag", **fields)
    model.set_attn_implementation("eager")
    first, *others = model(IMAGES, output_attentions=True).attentions
    sides = model.config.grid_sizes
    assert first.shape == (len(IMAGES) * sides[0] ** 2, 1, 1, len(SHIFTS[model.config.shift_type]))
    assert [other.shape[-1] for other in others] == [sides[1] ** 2, sides[2] ** 2, sides[2] ** 2]


def test_shifts_move_the_image_and_bring_in_its_other_side():
    image = torch.arange(16.0).view(1, 1, 4, 4)
    longer = continued(image, 1, 2)
    assert longer.shape[-2:] == (7, 7)
    assert torch.equal(longer[..., 1:5, 2:6], image)
    assert torch.equal(longer[..., 1:5, :2], image[..., 2:])
    assert torch.equal(longer[..., 0, 2:6], image[..., 3, :])
    assert not longer[..., 5:, :].any()
    assert not longer[..., 6:].any()
    assert torch.equal(rolled(image, 1, -1)[0, 0, 1], image[0, 0, 0].roll(-1))
    assert {kind: len(set(shifts)) for kind, shifts in SHIFTS.items()} == {"pad": 10, "roll": 18}


def test_another_size_is_refused():
    with pytest.raises(ValueError, match="made for images of 32x32 pixels, got 32x40"):
        tiny_model("locally_sag")(torch.zeros(1, 3, 32, 40))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"depths": [1, 2]}, "hidden_sizes needs one value per stage"),
        ({"num_attention_heads": [4, 4, 5, 4]}, "multiple of its num_attention_heads"),
        ({"patch_size": 300}, "no patch fits"),
        ({"patch_padding": -1}, "patch_padding must not be negative"),
        ({"patch_size": 4, "patch_stride": 2, "patch_padding": 0}, "as many patches as before"),
    ],
)
def test_fields_that_do_not_fit_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        LocallySagConfig(**fields)


def test_initialisation_is_the_originals():
    model = LocallySagForImageClassification(LocallySagConfig(**TINY["locally_sag"] | {"hidden_sizes": [64, 64, 64]}))
    projection, stage = model.model.embeddings.projection, model.model.stages[0]
    assert projection.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not projection.bias.any()
    assert stage.position_embeddings.std().item() == pytest.approx(0.02, rel=0.05)
    assert stage.layers[0].attention.key_value.weight.std().item() == pytest.approx(0.02, rel=0.05)


def test_the_stages_norms_are_saved_once():
    model = tiny_model("locally_sag")
    norms = [name for name, _ in model.named_parameters() if name.endswith("norm.weight")]
    assert len(norms) == 2 * len(model.config.depths) + 1


def test_checkpoints_that_do_not_fit_are_refused():
    projections = {f"to_patch_embedding.projections.{index}.bias": torch.zeros(192) for index in range(9)}
    with pytest.raises(ValueError, match="does not fit"):
        convert("locally_sag", "imagenet_tiny", projections)
    with pytest.raises(ValueError, match="differ in shape"):
        convert(
            "locally_sag", "imagenet_tiny", projections | {"to_patch_embedding.projections.9.bias": torch.zeros(3)}
        )


def test_processors_are_the_data_sets():
    for variant, labels, mean in (
        ("imagenet_tiny", 5, 0.485),
        ("cifar_tiny", 10, 0.4914),
        ("cifar_base", 100, 0.5071),
    ):
        assert processor(variant, LocallySagConfig(num_labels=labels))["image_mean"][0] == mean
