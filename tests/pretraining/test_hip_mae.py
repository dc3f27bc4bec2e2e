"""Masked auto-encoding of pixels with HiP: the same loss as for any inputs, a picture, an encoder of images."""

import pytest
import torch

from hf_vits.conversion import convert
from hf_vits.models.hip.modeling_hip import HipForPreTraining, HipModel
from hf_vits.pretraining.hip_mae.configuration_hip_mae import HipMAEConfig
from hf_vits.pretraining.hip_mae.modeling_hip_mae import HipMAEForPreTraining

from ..parity.golden import Case
from ..support.paths import PARITY_CASES
from .hip_mae.forms import TINY


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = HipMAEForPreTraining(HipMAEConfig(**TINY)).eval()
    torch.nn.init.normal_(made.model.reconstruction.projections["image"].weight)  # zero in a new model
    return made


@pytest.fixture(scope="module")
def images():
    return torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_pixels_are_inputs_line_by_line(model, images):
    inputs = {"image": images.flatten(2).transpose(1, 2)}
    plain = HipForPreTraining(model.config.encoder_config()).eval()
    plain.load_state_dict(model.state_dict())
    expected, found = plain(inputs), model(images)
    assert found.loss > 0
    torch.testing.assert_close(found.loss, expected.loss)
    features = model.export()(images).pooler_output
    torch.testing.assert_close(features, HipModel.forward(plain.model, inputs).pooler_output)


def test_the_picture_shows_hidden_and_painted_pixels_and_positions(model, images):
    with torch.no_grad():
        seen, painted, positions = model.picture(images)
    assert (seen.title, seen.hidden.float().mean().item()) == ("25% seen", 0.75)
    changed = (painted.images != images).any(dim=1)
    assert not changed[~seen.hidden].any()
    assert changed[seen.hidden].float().mean() > 0.99
    assert positions.images.shape == (4, 32, 32)
    torch.testing.assert_close(positions.images.flatten(1).amax(1), torch.ones(4))  # its own


def test_a_tree_of_the_original_is_loaded():
    case = Case.load(PARITY_CASES / "hip" / "hip_class_bottleneck_mini.json")
    tree = {key: value for key, value in case.checkpoint().items() if "label" not in key and "head/" not in key}
    tree = {key.replace("imagenet_image", "image"): value for key, value in tree.items()}
    plain, loaded = convert("hip", "hip_class_bottleneck_mini", tree), convert("hip_mae", "hip_mini", tree)
    assert loaded.config.image_size == 32
    for name, value in plain.state_dict().items():
        assert torch.equal(loaded.model.get_parameter(name), value), name


@pytest.mark.parametrize(
    "fields",
    [{"modalities": [["image", 30, 3]]}, {"modalities": [["sound", 25, 1]]}, {"modalities": {"image": 4, "label": 1}}],
)
def test_configurations_that_cannot_be(fields):
    with pytest.raises(ValueError, match="modalities"):
        HipMAEConfig(**fields)


def test_images_that_do_not_fit(model):
    with pytest.raises(ValueError, match="another position table"):
        model(torch.zeros(1, 3, 16, 16))
