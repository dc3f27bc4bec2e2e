"""Resampling with torchaudio's default filter, for any two rates."""

import math

import numpy as np
import pytest
import torch

from hf_vits.processing import resample as module
from hf_vits.processing.resample import resample


def by_definition(waveform: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Sum over all input samples for every output sample, in float64; Hann window over 6 crossings, roll-off 0.99.

    Source of the formula: torchaudio's documentation of `torchaudio.transforms.Resample`.
    """
    cutoff = min(from_rate, to_rate) * 0.99
    outputs = np.arange(math.ceil(len(waveform) * to_rate / from_rate)) / to_rate
    crossings = (np.arange(len(waveform)) / from_rate - outputs[:, None]) * cutoff
    window = np.where(np.abs(crossings) < 6, np.cos(crossings * np.pi / 12) ** 2, 0)
    return (np.sinc(crossings) * window) @ waveform * cutoff / from_rate


@pytest.mark.parametrize(
    ("from_rate", "to_rate"),
    [(16000, 8192), (44100, 16000), (8000, 16000), (22050, 8192), (16000, 44100), (16001, 15999), (10, 9), (3, 100)],
)
def test_equals_the_definition(from_rate, to_rate):
    waveform = np.random.RandomState(0).standard_normal(301) * 0.3
    found = resample(torch.from_numpy(waveform).float(), from_rate, to_rate)
    np.testing.assert_allclose(found.numpy(), by_definition(waveform, from_rate, to_rate), rtol=0, atol=1e-5)


def test_a_tone_keeps_its_pitch_and_loudness():
    seconds = torch.arange(48000) / 48000
    found = resample(torch.sin(2 * math.pi * 440 * seconds), 48000, 16000)
    expected = torch.sin(2 * math.pi * 440 * torch.arange(16000) / 16000)
    torch.testing.assert_close(found[100:-100], expected[100:-100], rtol=0, atol=2e-3)


def test_a_tone_above_the_new_range_is_gone():
    seconds = torch.arange(48000) / 48000
    assert resample(torch.sin(2 * math.pi * 15000 * seconds), 48000, 16000)[200:-200].abs().max() < 0.01


def test_batches_and_parts_give_the_same(monkeypatch):
    waveforms = torch.randn(2, 3, 500)
    whole = resample(waveforms, 441, 160)
    torch.testing.assert_close(whole[1, 2], resample(waveforms[1, 2], 441, 160))
    monkeypatch.setattr(module, "_MOST_PRODUCTS", 1000)
    torch.testing.assert_close(resample(waveforms, 441, 160), whole)


def test_very_short_waveforms():
    for length in (1, 2, 3):
        assert len(resample(torch.ones(length), 16000, 8192)) == math.ceil(length * 8192 / 16000)
    assert resample(torch.ones(5), 8000, 8000).tolist() == [1] * 5


def test_gradients_pass():
    waveform = torch.randn(50, requires_grad=True)
    resample(waveform, 3, 2).sum().backward()
    assert waveform.grad.abs().sum() > 0


@pytest.mark.parametrize("rate", [0, -8000, 16000.5])
def test_rates_that_are_none(rate):
    with pytest.raises(ValueError, match=f"to_rate must be a whole number of Hz above 0, got {rate}"):
        resample(torch.ones(5), 16000, rate)


def test_integers_are_refused():
    with pytest.raises(TypeError, match=r"waveform of floats, got torch.int16"):
        resample(torch.ones(5, dtype=torch.int16), 16000, 8000)
