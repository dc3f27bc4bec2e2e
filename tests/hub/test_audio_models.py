"""Features of every audio architecture, on the tiny models of `tests.support.hub`."""

import json
import re

import pytest
import torch
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

from hf_vits import conversion
from hf_vits.cli import main
from hf_vits.hub import model_card, push_to_hub
from hf_vits.hub.facts import FACTS
from hf_vits.testing.hub import LoopbackHub

from ..support.audio import noise, write
from ..support.hub import AUDIO, tiny_model, variant_for

CLASSIFICATION = "AutoModelForAudioClassification"


def tiny_classifier(name: str):
    return tiny_model(name, CLASSIFICATION)


def tiny_extractor(name: str, model):
    """Return the feature extractor of the first variant that classifies sounds, with the sizes of the tiny model."""
    return conversion.processor(name, variant_for(name, CLASSIFICATION), model)


@pytest.mark.parametrize("name", AUDIO)
def test_card_and_what_it_tells_to_type(name, tmp_path, monkeypatch, capsys):
    """Pushed with its processor, the model comes back the same; the card's snippet runs."""
    model, facts = tiny_classifier(name), FACTS[name]
    extractor = tiny_extractor(name, model)
    card = model_card(model, variant=variant_for(name, CLASSIFICATION))
    assert card.data.pipeline_tag == "audio-classification"
    assert set(card.data.tags) == {"audio", "hf_vits", *facts.tags}
    clip = noise(16_000)
    write(tmp_path / "audio.wav", clip, 16_000)
    monkeypatch.chdir(tmp_path)
    with LoopbackHub() as hub, hub.in_process(tmp_path / "home"):
        push_to_hub(model, f"user/{name}", extractor, token=hub.token, card=card)
        pulled = AutoModelForAudioClassification.from_pretrained(f"user/{name}")
        pulled_extractor = AutoFeatureExtractor.from_pretrained(f"user/{name}")
        text = hub.repository(f"user/{name}").head.files["README.md"].content.decode()
        exec(re.search(r"```python\n(.*?)```", text.replace("REPOSITORY", f"user/{name}"), re.DOTALL)[1], {})
    assert re.search("cat|dog|eel", capsys.readouterr().out)
    expected, found = (one(clip, 16_000, return_tensors="pt") for one in (extractor, pulled_extractor))
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    with torch.no_grad():
        torch.testing.assert_close(pulled(**found).logits, model(**expected).logits)


@pytest.mark.parametrize("name", AUDIO)
def test_the_command_line_describes_it(name, capsys):
    assert main(["list", name, "--json"]) == 0
    listed = {row["variant"]: row for row in json.loads(capsys.readouterr().out)["variants"]}
    assert list(listed) == list(conversion.variants(name))
    variant = variant_for(name, CLASSIFICATION)
    assert main(["info", f"{name}/{variant}", "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described["parameters"] == listed[variant]["parameters"]
    assert described["flops"] > 1e6
    assert described["processor"]["sampling_rate"] > 0
    assert re.search(r"\d+ (samples|frames)", described["input"])
