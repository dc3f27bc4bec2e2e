"""What every audio architecture can do, on the tiny models of `hub_support`."""

import json
import re

import pytest
import torch
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

from hf_vits import conversion
from hf_vits.cli import main
from hf_vits.hub import model_card, push_to_hub
from hf_vits.hub.facts import FACTS
from hf_vits.hub.loopback import LoopbackHub

from .audio_support import noise, write
from .hub_support import AUDIO, tiny_model

CLASSIFICATION = "AutoModelForAudioClassification"
FRAMES = 40  # of models that take any number


def tiny_classifier(name: str):
    return tiny_model(name, CLASSIFICATION)


def inputs(model) -> torch.Tensor:
    """Two waveforms (batch, samples) or spectrograms (batch, frames, bins)."""
    config, generator = model.config, torch.Generator().manual_seed(0)
    if model.main_input_name == "input_values":
        return torch.randn(2, config.padded_length(400), generator=generator)
    return torch.randn(2, getattr(config, "num_frames", FRAMES), config.num_mel_bins, generator=generator)


def tiny_extractor(model):
    """The architecture's own, of its first variant, for the tiny model's sizes."""
    name = model.config.model_type.removeprefix("hf_vits_")
    return conversion.processor(name, next(iter(conversion.variants(name))), model)


@pytest.mark.parametrize("name", AUDIO)
@torch.no_grad()
def test_compiles_without_a_graph_break(name):
    torch.compiler.reset()
    model = tiny_classifier(name)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(inputs(model)).logits, model(inputs(model)).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", AUDIO)
def test_unknown_arguments_are_refused(name):
    model = tiny_classifier(name)
    with pytest.raises(TypeError, match=f"{type(model).__name__} got unknown arguments pixel_values: leave them out"):
        model(inputs(model), pixel_values=inputs(model))


@pytest.mark.parametrize("name", AUDIO)
@torch.no_grad()
def test_exports(name):
    model = tiny_classifier(name)
    exported = torch.export.export(model, (inputs(model),)).module()
    torch.testing.assert_close(exported(inputs(model)).logits, model(inputs(model)).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", AUDIO)
def test_trains_under_autocast(name, dtype):
    model = tiny_classifier(name).train()
    with torch.autocast("cpu", dtype=dtype):
        loss = model(inputs(model), labels=torch.tensor([0, 1])).loss
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", AUDIO)
@torch.no_grad()
def test_half_precision_weights_take_single_precision_inputs(name):
    model = tiny_classifier(name).to(torch.bfloat16)
    assert model(inputs(model)).logits.dtype == torch.bfloat16


@pytest.mark.parametrize("name", AUDIO)
def test_card_and_what_it_tells_to_type(name, tmp_path, monkeypatch, capsys):
    """Pushed with its processor, the model comes back the same; the card's snippet runs."""
    model, facts = tiny_classifier(name), FACTS[name]
    extractor = tiny_extractor(model)
    card = model_card(model, variant=next(iter(conversion.variants(name))))
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
    listed = json.loads(capsys.readouterr().out)["variants"]
    assert [row["variant"] for row in listed] == list(conversion.variants(name))
    variant = listed[0]["variant"]
    assert main(["info", f"{name}/{variant}", "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described["parameters"] == listed[0]["parameters"]
    assert described["flops"] > 1e6
    assert described["processor"]["sampling_rate"] > 0
    assert re.search(r"\d+ (samples|frames)", described["input"])
