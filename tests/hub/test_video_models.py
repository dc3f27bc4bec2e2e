"""Features of every video architecture, on the tiny models of `tests.support.hub`."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForVideoClassification, AutoVideoProcessor

from hf_vits import VitsVideoProcessor, conversion
from hf_vits.cli import main
from hf_vits.hub import model_card, push_to_hub
from hf_vits.hub.facts import FACTS
from hf_vits.testing.hub import LoopbackHub

from ..support.hub import VIDEO, run_without_hf_vits, tiny_model, variant_for
from ..support.video import encode, numbered

CLASSIFICATION = "AutoModelForVideoClassification"

LOAD_EVERYTHING = """
import torch
from safetensors.torch import save_file
from transformers import AutoModel, AutoModelForVideoClassification, AutoVideoProcessor

results = {}
for name in NAMES:
    processor = AutoVideoProcessor.from_pretrained(f"user/{name}", trust_remote_code=True)
    pixels = processor("clip.mp4", return_tensors="pt").pixel_values
    model = AutoModelForVideoClassification.from_pretrained(f"user/{name}", trust_remote_code=True)
    with torch.no_grad():
        results[f"{name}.pixels"] = pixels
        results[f"{name}.logits"] = model(pixels).logits
        results[f"{name}.pooled"] = AutoModel.from_pretrained(f"user/{name}", trust_remote_code=True)(pixels)[1]
    assert type(processor).__module__.startswith("transformers_modules.")
assert "hf_vits" not in sys.modules
save_file(results, "results.safetensors")
"""


def tiny_classifier(name: str):
    return tiny_model(name, CLASSIFICATION)


def tiny_processor() -> VitsVideoProcessor:
    size = {"shortest_edge": 32}
    return VitsVideoProcessor(num_frames=4, sampling_rate=2, size=size, crop_size={"height": 32, "width": 32})


@pytest.fixture
def video(tmp_path):
    return encode(tmp_path / "clip.mp4", numbered(range(20)))


@pytest.mark.parametrize("name", VIDEO)
def test_card_and_what_it_tells_to_type(name, video, tmp_path, monkeypatch, capsys):
    """Pushed with its processor, the model comes back the same; the card's snippet runs."""
    model, facts, processor = tiny_classifier(name), FACTS[name], tiny_processor()
    card = model_card(model, variant=variant_for(name, CLASSIFICATION))
    assert card.data.pipeline_tag == "video-classification"
    assert set(card.data.tags) == {"vision", "hf_vits", *facts.tags}
    assert "clips of 4 frames of 32x32 pixels, 3 classes" in card.text
    monkeypatch.chdir(tmp_path)
    with LoopbackHub() as hub, hub.in_process(tmp_path / "home"):
        card.validate()
        push_to_hub(model, f"user/{name}", processor, token=hub.token, card=card)
        pulled = AutoModelForVideoClassification.from_pretrained(f"user/{name}")
        pulled_processor = AutoVideoProcessor.from_pretrained(f"user/{name}")
        text = hub.repository(f"user/{name}").head.files["README.md"].content.decode()
        exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], {})
    assert re.search("cat|dog|eel", capsys.readouterr().out)
    expected, found = (one(video, return_tensors="pt").pixel_values for one in (processor, pulled_processor))
    assert torch.equal(expected, found)
    with torch.no_grad():
        torch.testing.assert_close(pulled(found).logits, model(expected).logits)


def test_loads_where_hf_vits_cannot_be_imported(video, tmp_path):
    models, processor = {name: tiny_classifier(name) for name in VIDEO}, tiny_processor()
    with LoopbackHub() as hub, hub.in_process(tmp_path / "home"):
        for name, model in models.items():
            push_to_hub(model, f"user/{name}", processor, token=hub.token)
        run_without_hf_vits(f"NAMES = {list(models)}\n{LOAD_EVERYTHING}", hub, tmp_path)
    results = load_file(tmp_path / "results.safetensors")
    pixels = processor(video, return_tensors="pt").pixel_values
    for name, model in models.items():
        assert torch.equal(results[f"{name}.pixels"], pixels)
        with torch.no_grad():
            torch.testing.assert_close(results[f"{name}.logits"], model(pixels).logits)
            torch.testing.assert_close(results[f"{name}.pooled"], model.model(pixels).pooler_output)


@pytest.mark.parametrize("name", ["vivit/vivit_base_factorised_encoder_k400", "mvit/mvitv2_s_16x4_k400"])
def test_the_command_line_describes_it(name, capsys):
    system, variant = name.split("/")
    assert main(["list", system, "--json"]) == 0
    listed = {row["variant"]: row for row in json.loads(capsys.readouterr().out)["variants"]}
    assert list(listed) == list(conversion.variants(system))
    assert main(["info", name, "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described["parameters"] == listed[variant]["parameters"]
    assert described["flops"] > 1e11
    assert re.fullmatch(r"\d+x3x224x224", described["input"])
    assert described["processor"]["num_frames"] == int(described["input"].split("x")[0])


def test_the_command_line_describes_models_of_several_modalities(capsys):
    assert main(["info", "vatt/ut_fac_medium", "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described["input"] == "32x3x224x224 and 8192 samples and 16 words"
    assert described["flops"] > 1e11
