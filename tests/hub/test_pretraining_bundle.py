"""The bundled code of self-supervised models and their backbones, without hf_vits installed."""

import json

import pytest
import torch
from transformers import AutoModelForPreTraining

from hf_vits.hub import push_to_hub, save_for_hub
from hf_vits.testing.hub import LoopbackHub

from ..support.hub import METHODS, run_without_hf_vits, tiny_model, tiny_processor

AUTO_CLASS = "AutoModelForPreTraining"
WITH_BACKBONE_INSIDE = ("hip_mae", "mae")
OVER_ANY_BACKBONE = [name for name in METHODS if name not in WITH_BACKBONE_INSIDE]

LOAD_MASKED_AUTOENCODER = """
import json
import torch
from transformers import AutoModelForPreTraining

model = AutoModelForPreTraining.from_pretrained("user/mae", trust_remote_code=True)
images = torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)
noise = torch.linspace(0, 1, 32).view(2, 16)
with torch.no_grad():
    print(json.dumps([model(images, noise).loss.item(), model.export()(images).pooler_output.sum().item()]))
assert "hf_vits" not in sys.modules
"""

LOAD_BACKBONE_AND_METHOD = """
import json
import torch
from transformers import AutoImageProcessor, AutoModel, AutoModelForPreTraining

AutoImageProcessor.from_pretrained("user/method", trust_remote_code=True)
backbone = AutoModel.from_pretrained("user/backbone", trust_remote_code=True)
images = torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)
with torch.no_grad():
    found = [backbone(images).pooler_output.double().sum().item()]
for options in ({}, {"trust_remote_code": True}):
    try:
        AutoModelForPreTraining.from_pretrained("user/method", **options)
    except (ValueError, ImportError) as error:
        found.append(str(error))

sys.meta_path.pop(0)  # from here on hf_vits is installed, but not imported yet
model = AutoModelForPreTraining.from_pretrained("user/method", trust_remote_code=True)
with torch.no_grad():
    found.append(model.export()(images).pooler_output.double().sum().item())
model.save_pretrained("again")
again = AutoModelForPreTraining.from_pretrained("again")
assert type(again).__module__.startswith("hf_vits.")
assert all(torch.equal(value, model.state_dict()[key]) for key, value in again.state_dict().items())
print()  # after a question that was not answered
print(json.dumps(found))
"""

IMAGES = torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)


def test_a_masked_autoencoder_carries_its_code(tmp_path):
    model = tiny_model("mae", AUTO_CLASS)
    with LoopbackHub() as hub, hub.in_process(tmp_path / "home"):
        push_to_hub(model, "user/mae", tiny_processor(), token=hub.token)
        loss, features = json.loads(run_without_hf_vits(LOAD_MASKED_AUTOENCODER, hub, tmp_path).splitlines()[-1])
    with torch.no_grad():
        assert model(IMAGES, torch.linspace(0, 1, 32).view(2, 16)).loss.item() == pytest.approx(loss)
        assert model.export()(IMAGES).pooler_output.sum().item() == pytest.approx(features)


@pytest.mark.parametrize("name", OVER_ANY_BACKBONE)
def test_students_and_teachers_ask_for_the_package_and_their_backbones_do_not(name, tmp_path):
    model = tiny_model(name, AUTO_CLASS)
    with LoopbackHub() as hub, hub.in_process(tmp_path / "home"):
        push_to_hub(model, "user/method", tiny_processor(), token=hub.token)
        push_to_hub(model.export(), "user/backbone", tiny_processor(), token=hub.token)
        printed = run_without_hf_vits(LOAD_BACKBONE_AND_METHOD, hub, tmp_path)
        loaded = AutoModelForPreTraining.from_pretrained("user/method")
    backbone, untrusted, missing, exported = json.loads(printed.splitlines()[-1])
    with torch.no_grad():
        expected = model.export()(IMAGES).pooler_output.double().sum().item()
    assert backbone == pytest.approx(expected)
    assert exported == pytest.approx(expected)
    assert "pass the argument `trust_remote_code=True`" in untrusted
    assert "Run `pip install hf_vits`" in missing
    assert type(loaded) is type(model)
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in loaded.state_dict().items())


@pytest.mark.parametrize("name", METHODS)
def test_the_card_says_what_it_needs(name, tmp_path):
    save_for_hub(tiny_model(name, AUTO_CLASS), tmp_path / "model", tiny_processor())
    card = (tmp_path / "model" / "README.md").read_text()
    assert ("pip install hf_vits" in card) == (name not in WITH_BACKBONE_INSIDE)
    assert ("trust_remote_code=True" in card) == (name in WITH_BACKBONE_INSIDE)
    assert "from_pretrained" in card
