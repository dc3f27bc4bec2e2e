"""Training on recordings: augmentation, batches of like length, and tiny runs of both audio tasks."""

import copy
import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers import (
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    AutoModelForCTC,
    AutoProcessor,
    pipeline,
)

from hf_vits.data.audio import TEXT_SOURCES
from hf_vits.processing.audio import VitsSpectrogramFeatureExtractor
from hf_vits.recipe import AudioRecipe, SpecAugmentRecipe, load_recipe
from hf_vits.training import train
from hf_vits.training.examples import audio_augmentation as augmentation
from hf_vits.training.examples.audio_batches import LengthBatches
from hf_vits.training.examples.audio_statistics import fit_normalization
from hf_vits.training.examples.randomness import seeded
from hf_vits.training.examples.recordings import read
from hf_vits.training.loop.trainer import RecipeTrainer

from ..support.training import history, losses

RATE = 8000
EVERYTHING = {
    "speed": [0.9, 1.0, 1.1],
    "shift": 0.05,
    "polarity": 0.5,
    "reverb": 0.5,
    "gain": 0.5,
    "noise": 0.5,
}


def tone(frequency: float = 500, seconds: float = 0.5) -> torch.Tensor:
    return 0.5 * torch.sin(2 * torch.pi * frequency * torch.arange(round(seconds * RATE)) / RATE)


def peak(waveform: torch.Tensor) -> float:
    """The loudest frequency."""
    return float(torch.fft.rfft(waveform).abs().argmax()) * RATE / len(waveform)


# waveforms


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.1, 1.25])
def test_speed_changes_length_and_pitch(factor):
    changed = augmentation.change_speed(tone(), factor)
    assert len(changed) == pytest.approx(0.5 * RATE / factor, abs=1)
    assert peak(changed) == pytest.approx(500 * factor, abs=3)


@given(st.integers(-12, 12))
def test_shift_moves_and_fills_with_silence(samples):
    waveform = torch.arange(1.0, 11.0)
    shifted = augmentation.shift(waveform, samples)
    expected = [waveform[i - samples].item() if 0 <= i - samples < 10 else 0 for i in range(10)]
    assert shifted.tolist() == expected


@pytest.mark.parametrize("decibels", [0, 20])
def test_noise_has_its_level(decibels):
    waveform = tone(seconds=5)
    noise = augmentation.add_noise(waveform, decibels) - waveform
    ratio = 10 * torch.log10(waveform.square().mean() / noise.square().mean())
    assert float(ratio) == pytest.approx(decibels, abs=0.3)


def test_reverberation_dies_away():
    click = torch.zeros(RATE)
    click[100] = 1
    with seeded(0):
        heard = augmentation.reverberate(click, 0.4, RATE)
    assert heard[:100].abs().max() < 1e-5
    assert heard[100] == pytest.approx(1, abs=1e-4)
    energy = [float(heard[start : start + 800].square().sum()) for start in range(130, 3000, 800)]
    assert energy == sorted(energy, reverse=True)
    # 60 dB in 0.4 s are 15 dB in a quarter of that.
    assert 10 * np.log10(energy[0] / energy[1]) == pytest.approx(15, abs=2)
    assert heard[100 + 3200 :].abs().max() < 1e-5
    assert 0.1 < float(heard[101:].square().sum()) < 0.4


def test_waveforms_depend_on_the_seed_alone():
    recipe = AudioRecipe(**EVERYTHING)

    def augmented(seed: int) -> torch.Tensor:
        with seeded(seed):
            return augmentation.augment_waveform(tone(), recipe, RATE)

    first = augmented(3)
    state = torch.get_rng_state()
    assert torch.equal(augmented(3), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert len({augmented(seed).sum().item() for seed in range(20)}) == 20


def test_nothing_happens_that_the_recipe_does_not_have():
    assert torch.equal(augmentation.augment_waveform(tone(), AudioRecipe(), RATE), tone())


# spectrograms


@given(st.integers(0, 2**31), st.integers(8, 60), st.integers(0, 20))
def test_masks_are_no_wider_than_they_may_be(seed, length, padding):
    recipe = SpecAugmentRecipe(frequency_masks=1, frequency_width=5, time_masks=1, time_fraction=0.25)
    features = torch.rand(length + padding, 16) + 1
    with seeded(seed):
        masked = augmentation.spec_augment(features, recipe, length)
    gone = masked == 0
    bins, frames = gone.all(dim=0).nonzero().flatten(), gone[:, ~gone.all(dim=0)].all(dim=1).nonzero().flatten()
    assert len(bins) <= 5
    assert len(frames) <= length // 4
    for band in (bins, frames):
        assert band.tolist() == list(range(int(band[0]), int(band[0]) + len(band))) if len(band) else True
    assert not len(frames) or frames[-1] < length
    kept = ~gone
    assert torch.equal(masked[kept], features[kept])


@given(st.integers(0, 2**31), st.integers(1, 40))
def test_warped_time_keeps_length_and_order(seed, frames):
    ramp = torch.arange(float(frames))[:, None].expand(-1, 4)
    with seeded(seed):
        warped = augmentation.warp_time(ramp, 5)
    assert warped.shape == ramp.shape
    assert (warped - ramp).abs().max() < 7
    if frames <= 10:
        assert torch.equal(warped, ramp)


def test_time_is_warped_by_up_to_five_frames():
    ramp = torch.arange(100.0)[:, None]
    moves = []
    for seed in range(50):
        with seeded(seed):
            moves.append(float((augmentation.warp_time(ramp, 5) - ramp).abs().max()))
    assert 3 < max(moves) < 6.5
    assert min(moves) < 1


def test_mixed_examples_meet_the_one_before():
    batch = {"input_values": torch.eye(4), "labels": torch.eye(4)}
    with seeded(1):
        mixed = augmentation.mix_up(batch, 0.5, 1.0, ("input_values", "labels"))
    share = mixed["labels"][0, 0]
    assert 0 < share < 1
    assert torch.allclose(mixed["labels"], share * torch.eye(4) + (1 - share) * torch.eye(4).roll(1, 0))
    assert torch.equal(mixed["labels"], mixed["input_values"])
    assert augmentation.mix_up(batch, 0.5, 0.0, ("input_values", "labels")) is batch


# batches


def length_batches(seconds, processes=1, process=0):
    return LengthBatches(seconds, 8, 5, processes=processes, process=process)


def test_batches_hold_recordings_of_like_length_in_random_order():
    seconds = np.random.default_rng(0).uniform(1, 10, size=200)
    batches = length_batches(seconds)
    orders = []
    for epoch in range(2):
        batches.set_epoch(epoch)
        drawn = [[draw.index for draw in batch] for batch in batches]
        assert len({index for batch in drawn for index in batch}) == 200
        assert max(np.ptp(seconds[batch]) for batch in drawn) < 1.5
        means = np.asarray([seconds[batch].mean() for batch in drawn])
        assert abs(np.corrcoef(means, np.arange(25))[0, 1]) < 0.6
        orders.append(drawn)
    assert orders[0] != orders[1]
    halves = [[draw.index for draw in batch] for process in (0, 1) for batch in length_batches(seconds, 2, process)]
    assert [first + second for first, second in zip(halves[:25], halves[25:], strict=True)] == orders[0]


# runs

AUDIOMER = {"system": "audiomer", "variant": "audiomer_s_sc12", "config": {"hidden_sizes": [4, 8, 8, 16, 16, 32]}}
SEPTR = {
    "system": "septr",
    "variant": "septr_vh",
    "config": {
        "num_mel_bins": 16,
        "num_frames": 16,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "head_dim": 8,
        "intermediate_size": 16,
    },
    "processor": {"sampling_rate": RATE, "hop_length": 260, "max_length": 3900},
}
BRANCHFORMER = {
    "system": "branchformer",
    "variant": "aishell_e24",
    "config": {
        "num_mel_bins": 20,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "conv_depthwise_kernel_size": 7,
        "max_source_positions": 200,
    },
    "processor": {"sampling_rate": RATE},
}
TINY = {
    "audio-classification": {
        "data": {"source": "spoken_keywords", "speech": {"seconds": 0.5}},
        "audio": {**EVERYTHING, "mixup": 0.3, "mix_probability": 0.7},
    },
    "automatic-speech-recognition": {
        "data": {"source": "spoken_digits", "speech": {"digits": [1, 3]}},
        "audio": {
            **EVERYTHING,
            "fit_normalization": True,
            "spec_augment": {"time_warp": 3, "frequency_masks": 1, "frequency_width": 3, "time_fraction": 0.1},
        },
        "tokenizer": {"kind": "characters"},
    },
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("spoken")


def tiny(directory: Path, cache: Path, task: str, model: dict, **train_changes) -> dict:
    recipe = copy.deepcopy(TINY[task]) | {"task": task, "model": model}
    recipe["data"]["speech"] |= {"train": 48, "validation": 16, "test": 16, "sampling_rate": RATE, "cache": str(cache)}
    steps = {"length": "4 steps", "batch_size": 16, "log_every": "1 step", "save_every": "2 steps"}
    recipe["train"] = steps | {"max_grad_norm": 1.0} | train_changes
    recipe["optimizer"] = {"learning_rate": 0.002}
    return recipe | {"output": {"directory": str(directory)}}


def same_state(first, second) -> bool:
    tensors = second.state_dict()
    return all(torch.equal(value, tensors[name]) for name, value in first.state_dict().items())


@pytest.mark.parametrize("model", [AUDIOMER, SEPTR], ids=["audiomer", "septr"])
def test_a_run_of_audio_classification(tmp_path, cache, model):
    directory = tmp_path / "run"
    results = train(tiny(directory, cache, "audio-classification", model))
    assert (results["train_recordings"], results["test_recordings"], results["steps"]) == (48, 16, 4)
    assert 0 <= results["test"]["accuracy"] <= results["test"]["top5_accuracy"] <= 1
    trained = AutoModelForAudioClassification.from_pretrained(directory)
    assert list(trained.config.id2label.values())[:2] == ["yes", "no"]
    extractor = AutoFeatureExtractor.from_pretrained(directory)
    found = pipeline("audio-classification", trained, feature_extractor=extractor)(tone(seconds=0.5).numpy(), top_k=1)
    assert found[0]["label"] in trained.config.label2id
    rows = list(csv.reader((directory / "confusion_matrix.csv").open()))
    assert sum(int(count) for row in rows[1:] for count in row[1:]) == 16
    card = (directory / "README.md").read_text()
    assert "keywords spoken by espeak-ng" in card
    assert str(cache) not in card
    with Image.open(directory / "predictions.png") as image:
        assert np.asarray(image.convert("L")).std() > 10


def test_a_run_of_speech_recognition(tmp_path, cache):
    directory = tmp_path / "run"
    results = train(tiny(directory, cache, "automatic-speech-recognition", BRANCHFORMER))
    assert results["test"]["word_error_rate"] >= 0
    assert {"eval_loss", "eval_word_error_rate"} <= history(directory)[-2].keys() | history(directory)[-1].keys()
    processor = AutoProcessor.from_pretrained(directory)
    model = AutoModelForCTC.from_pretrained(directory)
    assert model.config.vocab_size == len(processor.tokenizer)
    assert processor.feature_extractor.normalization == "global"
    rows = list(csv.DictReader((directory / "transcripts.csv").open()))
    assert len(rows) == 16
    card = (directory / "README.md").read_text()
    assert "| reference | prediction | word_errors |" in card
    assert rows[0]["reference"] in [row["reference"] for row in rows]


def test_speech_features_are_normalised_by_the_training_recordings(tmp_path, cache):
    recipe = load_recipe(tiny(tmp_path, cache, "automatic-speech-recognition", BRANCHFORMER))
    _, _, splits = TEXT_SOURCES.load(recipe.data)
    fitted = fit_normalization(VitsSpectrogramFeatureExtractor(feature_size=20, sampling_rate=RATE), splits["train"])
    waveforms = [read(splits["train"], index, RATE) for index in range(48)]
    features = torch.cat([fitted(waveform, return_tensors="pt")["input_features"][0] for waveform in waveforms])
    assert features.mean(dim=0).abs().max() < 1e-3
    assert (features.std(dim=0) - 1).abs().max() < 1e-2


@pytest.mark.parametrize(
    ("task", "model"),
    [("audio-classification", SEPTR), ("automatic-speech-recognition", BRANCHFORMER)],
    ids=["classification", "speech"],
)
def test_a_run_that_goes_on_ends_as_one_that_never_stopped(tmp_path, cache, task, model):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(tiny(whole, cache, task, model))
    recipe = tiny(parts, cache, task, model)
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, steps=3)
        with pytest.raises(KeyboardInterrupt):
            train(recipe)
    train(recipe)
    assert losses(parts) == losses(whole)
    assert json.loads((parts / "results.json").read_text()) == json.loads((whole / "results.json").read_text())


def stop_after(patch, steps: int) -> None:
    """Let training be interrupted at a step, as by the keyboard."""
    original = RecipeTrainer.training_step

    def training_step(self, *args, **kwargs):
        if self.state.global_step == steps:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    patch.setattr(RecipeTrainer, "training_step", training_step)


def test_wrong_audio_recipes_are_named(tmp_path, cache):
    base = tiny(tmp_path, cache, "automatic-speech-recognition", BRANCHFORMER)
    for override, message in {
        "audio.speed=[0]": "audio.speed are factors such as 0.9 and 1.1",
        "audio.noise_decibels=[9, 1]": r"audio.noise_decibels is \[lowest, highest\]",
        "audio.spec_augment.time_width=9": "either time_width or time_fraction",
        "tokenizer.kind=bpe": "tokenizer.vocab_size goes with tokenizer.kind: bpe",
        "tokenizer.kind=words": "expected one of",
    }.items():
        with pytest.raises(ValueError, match=message):
            load_recipe(base, [override])
    with pytest.raises(ValueError, match="comes without a tokenizer: describe one to learn"):
        train(base, ["tokenizer=null"])
    with pytest.raises(ValueError, match="AutoModelForCTC"):
        train(base | {"model": AUDIOMER})
    wrong = tiny(tmp_path, cache, "audio-classification", AUDIOMER)
    with pytest.raises(ValueError, match="this task has no source 'spoken_digits'"):
        train(wrong, ["data.source=spoken_digits"])
    with pytest.raises(ValueError, match="for spectrograms; VitsWaveformFeatureExtractor makes none"):
        train(wrong, ["audio.fit_normalization=true"])


def test_a_missing_package_is_named():
    code = "import sys; sys.modules['rapidfuzz'] = None; from hf_vits.training import tasks; "
    command = [sys.executable, "-c", code + "tasks.load('automatic-speech-recognition')"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "automatic-speech-recognition needs the package rapidfuzz: pip install 'hf_vits[audio]'" in found.stderr
