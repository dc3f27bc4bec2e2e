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

# Of all methods in one process, since each process imports transformers anew.
LOAD_BACKBONES_AND_METHODS = """
import json
import torch
from transformers import AutoImageProcessor, AutoModel, AutoModelForPreTraining

names = NAMES
images = torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)
found = {}
for name in names:
    AutoImageProcessor.from_pretrained(f"user/{name}", trust_remote_code=True)
    backbone = AutoModel.from_pretrained(f"user/{name}-backbone", trust_remote_code=True)
    with torch.no_grad():
        found[name] = [backbone(images).pooler_output.double().sum().item()]
    for options in ({}, {"trust_remote_code": True}):
        try:
            AutoModelForPreTraining.from_pretrained(f"user/{name}", **options)
        except (ValueError, ImportError) as error:
            found[name].append(str(error))

sys.meta_path.pop(0)  # from here on hf_vits is installed, but not imported yet
for name in names:
    model = AutoModelForPreTraining.from_pretrained(f"user/{name}", trust_remote_code=True)
    with torch.no_grad():
        found[name].append(model.export()(images).pooler_output.double().sum().item())
    model.save_pretrained(name)
    again = AutoModelForPreTraining.from_pretrained(name)
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


def test_students_and_teachers_ask_for_the_package_and_their_backbones_do_not(tmp_path):
    models = {name: tiny_model(name, AUTO_CLASS) for name in OVER_ANY_BACKBONE}
    script = LOAD_BACKBONES_AND_METHODS.replace("NAMES", repr(OVER_ANY_BACKBONE))
    with LoopbackHub() as hub, hub.in_process(tmp_path / "home"):
        for name, model in models.items():
            push_to_hub(model, f"user/{name}", tiny_processor(), token=hub.token)
            push_to_hub(model.export(), f"user/{name}-backbone", tiny_processor(), token=hub.token)
        found = json.loads(run_without_hf_vits(script, hub, tmp_path).splitlines()[-1])
        loaded = {name: AutoModelForPreTraining.from_pretrained(f"user/{name}") for name in models}
    assert list(found) == OVER_ANY_BACKBONE
    for name, model in models.items():
        backbone, untrusted, missing, exported = found[name]
        with torch.no_grad():
            expected = model.export()(IMAGES).pooler_output.double().sum().item()
        assert backbone == pytest.approx(expected), name
        assert exported == pytest.approx(expected), name
        assert "pass the argument `trust_remote_code=True`" in untrusted
        assert "Run `pip install hf_vits`" in missing
        assert type(loaded[name]) is type(model)
        assert all(torch.equal(value, model.state_dict()[key]) for key, value in loaded[name].state_dict().items())


@pytest.mark.parametrize("name", METHODS)
def test_the_card_says_what_it_needs(name, tmp_path):
    save_for_hub(tiny_model(name, AUTO_CLASS), tmp_path / "model", tiny_processor())
    card = (tmp_path / "model" / "README.md").read_text()
    assert ("pip install hf_vits" in card) == (name not in WITH_BACKBONE_INSIDE)
    assert ("trust_remote_code=True" in card) == (name in WITH_BACKBONE_INSIDE)
    assert "from_pretrained" in card
