"""Feature extractors: equality with other implementations, batches, saving and loading."""

import json

import kaldi_native_fbank
import numpy as np
import pytest
import torch
from transformers import AutoFeatureExtractor
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from hf_vits import VitsSpectrogramFeatureExtractor, VitsWaveformFeatureExtractor
from hf_vits.processing import spectrogram as module
from hf_vits.processing.audio import KALDI

from ..support.audio import noise, tone, write

CLIPS = [noise(length, seed) for seed, length in enumerate((16000, 9001, 12345))]


def kaldi_features(waveform: np.ndarray) -> np.ndarray:
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.samp_freq = 16000
    options.mel_opts.num_bins = 80
    fbank = kaldi_native_fbank.OnlineFbank(options)
    fbank.accept_waveform(16000, (waveform * 32768).tolist())
    fbank.input_finished()
    return np.stack([fbank.get_frame(index) for index in range(fbank.num_frames_ready)])


def test_log_mel_is_espnets_and_librosas():
    """ESPnet uses librosa's filters and torch's transform; transformers has both in numpy."""
    extractor = VitsSpectrogramFeatureExtractor(win_length=400, n_fft=512, hop_length=160)
    filters = mel_filter_bank(257, 80, 0, 8000, 16000, norm="slaney", mel_scale="slaney")
    window = window_function(400, frame_length=512)
    expected = spectrogram(CLIPS[1], window, 512, 160, 512, 2.0, mel_filters=filters, mel_floor=1e-10, log_mel="log")
    features = extractor(CLIPS[1], return_tensors="np")
    assert features["input_features"].shape == (1, 1 + 9001 // 160, 80)
    np.testing.assert_allclose(features["input_features"][0], expected.T, atol=1e-4)


def test_linear_spectrogram_is_torchs():
    extractor = VitsSpectrogramFeatureExtractor(
        mel_scale=None, n_fft=400, hop_length=100, power=1.0, window_function="hamming", do_log=False
    )
    waveform = torch.from_numpy(CLIPS[1])
    expected = torch.stft(waveform, 400, 100, window=torch.hamming_window(400), return_complex=True).abs()
    found = extractor(waveform, return_tensors="pt")["input_features"][0]
    assert extractor.feature_size == 201
    torch.testing.assert_close(found, expected.T, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", [400, 559, 560, 16000])
def test_filter_banks_are_kaldis(length):
    waveform = noise(length) + 0.01  # with an offset, which Kaldi takes off
    found = VitsSpectrogramFeatureExtractor(**KALDI)(waveform, return_tensors="np")["input_features"][0]
    # In float32 the energy of a nearly empty bin is only known to a few 1e-4 of its logarithm, in Kaldi as well.
    np.testing.assert_allclose(found, kaldi_features(waveform), rtol=1e-4, atol=1e-4)


def test_kaldis_filter_banks_with_its_utterance_normalization():
    extractor = VitsSpectrogramFeatureExtractor(**KALDI, normalization="utterance", normalize_variance=True)
    expected = kaldi_features(CLIPS[0])
    expected = (expected - expected.mean(axis=0)) / expected.std(axis=0)
    found = extractor(CLIPS, return_tensors="np")
    np.testing.assert_allclose(found["input_features"][0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"normalization": "utterance"},
        {"normalization": "global", "mean": [-5.0] * 80, "std": [2.0] * 80},
        {"normalization": "min_max"},
        KALDI,
    ],
    ids=["plain", "utterance", "global", "min_max", "kaldi"],
)
def test_a_batch_holds_what_each_clip_gives_alone(fields):
    extractor = VitsSpectrogramFeatureExtractor(**fields)
    batch = extractor(CLIPS, return_tensors="pt")
    assert batch["attention_mask"].sum(dim=1).tolist() == [extractor.num_frames(len(clip)) for clip in CLIPS]
    for clip, features, mask in zip(CLIPS, batch["input_features"], batch["attention_mask"], strict=True):
        alone = extractor(clip, return_tensors="pt")["input_features"][0]
        torch.testing.assert_close(features[mask.bool()], alone, rtol=1e-4, atol=1e-4)
        padding = features[~mask.bool()]
        if fields.get("normalization") == "utterance":
            raw = VitsSpectrogramFeatureExtractor()(clip, return_tensors="pt")["input_features"][0]
            torch.testing.assert_close(padding, -raw.mean(dim=0).expand_as(padding), rtol=1e-4, atol=1e-4)
        else:
            assert (padding == 0).all()


def test_global_statistics_are_taken_off():
    mean, std = np.linspace(-9, 3, 80), np.linspace(1, 4, 80)
    extractor = VitsSpectrogramFeatureExtractor(normalization="global", mean=mean.tolist(), std=std.tolist())
    raw = VitsSpectrogramFeatureExtractor()(CLIPS[0], return_tensors="np")["input_features"]
    found = extractor(CLIPS[0], return_tensors="np")["input_features"]
    np.testing.assert_allclose(found, (raw - mean) / std, atol=1e-4)


def test_septrs_spectrogram_is_a_picture_of_one_size():
    extractor = VitsSpectrogramFeatureExtractor(
        n_fft=1024,
        win_length=512,
        hop_length=64,
        window_function="hamming",
        feature_size=128,
        power=0.5,
        normalization="min_max",
        padding="max_length",
        max_length=127 * 64,
        truncation=True,
        pad_with_silence=True,
        return_attention_mask=False,
    )
    batch = extractor([*CLIPS, noise(3000)], return_tensors="pt")
    assert list(batch) == ["input_features"]
    pictures = batch["input_features"]
    assert pictures.shape == (4, 128, 128)
    torch.testing.assert_close(pictures.amin(dim=(1, 2)), torch.zeros(4))
    torch.testing.assert_close(pictures.amax(dim=(1, 2)), torch.ones(4))
    assert (pictures[3, 60:] == 0).all()  # silence, the least of all


def test_extract_sees_what_follows_a_clip_in_its_row():
    """ESPnet does so in training; its golden case has noise there."""
    extractor = VitsSpectrogramFeatureExtractor()
    rows = torch.from_numpy(np.stack([noise(8000, 1), noise(8000, 2)]))
    features, mask = extractor.extract(rows, torch.tensor([8000, 4000]))
    whole = extractor(rows, return_tensors="pt")["input_features"]
    assert mask.sum(dim=1).tolist() == [51, 26]
    torch.testing.assert_close(features[0], whole[0])
    torch.testing.assert_close(features[1, :26], whole[1, :26])
    assert (features[1, 26:] == 0).all()


def test_long_recordings_are_computed_in_parts(monkeypatch):
    extractor = VitsSpectrogramFeatureExtractor()
    whole = extractor(CLIPS, return_tensors="pt")["input_features"]
    monkeypatch.setattr(module, "_MOST_SAMPLES", 3 * 512 * 7)
    torch.testing.assert_close(extractor(CLIPS, return_tensors="pt")["input_features"], whole)


def test_waveforms_are_padded_cut_and_masked():
    extractor = VitsWaveformFeatureExtractor(sampling_rate=8192, padding_value=9.0)
    clips = [np.arange(n, dtype=np.float32) for n in (5, 3)]
    batch = extractor(clips, return_tensors="pt", return_attention_mask=True)
    assert batch["input_values"].tolist() == [[0, 1, 2, 3, 4], [0, 1, 2, 9, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    fixed = extractor(clips, padding="max_length", max_length=4, truncation=True, return_tensors="pt")
    assert fixed["input_values"].tolist() == [[0, 1, 2, 3], [0, 1, 2, 9]]
    loose = extractor(clips, padding=False)
    assert [row.tolist() for row in loose["input_values"]] == [[0, 1, 2, 3, 4], [0, 1, 2]]
    multiple = extractor(clips, pad_to_multiple_of=4, return_tensors="np")
    assert multiple["input_values"].shape == (2, 8)


def test_lengths_above_a_multiple():
    """Audiomer's mean pooling needs such lengths."""
    extractor = VitsWaveformFeatureExtractor(pad_to_multiple_of=512, pad_offset=128)
    lengths = {n: extractor(noise(n), return_tensors="pt")["input_values"].shape[1] for n in (1, 128, 640, 641, 8320)}
    assert lengths == {1: 128, 128: 128, 640: 640, 641: 1152, 8320: 8320}


def test_normalized_waveforms():
    found = VitsWaveformFeatureExtractor(do_normalize=True)(CLIPS, return_tensors="np", return_attention_mask=True)
    for values, mask in zip(found["input_values"], found["attention_mask"], strict=True):
        assert values[mask == 1].mean() == pytest.approx(0, abs=1e-5)
        assert values[mask == 1].std() == pytest.approx(1, abs=1e-3)
        assert (values[mask == 0] == 0).all()


def test_every_way_to_hand_over_a_clip(tmp_path):
    """Other rates, two channels, integers, files of several formats, dicts as in `datasets`."""
    extractor = VitsWaveformFeatureExtractor(sampling_rate=8000)
    mono = tone(0.5, 16000)
    stereo = np.stack([mono * 1.2, mono * 0.8])
    expected = extractor(mono, sampling_rate=16000, return_tensors="np")["input_values"]
    assert expected.shape == (1, 4000)
    wav = write(tmp_path / "clip.wav", mono, 16000, "FLOAT")
    clips = {
        "tensor": torch.from_numpy(mono),
        "list of numbers": mono.tolist(),
        "float64": mono.astype(np.float64),
        "stereo": [stereo],
        "int16": np.round(mono * 32768).astype(np.int16),
        "int32": np.round(mono.astype(np.float64) * 2**31).astype(np.int32),
        "uint8": np.round(mono * 128 + 128).astype(np.uint8),
        "dict": {"array": mono, "sampling_rate": 16000},
        "path": wav,
        "bytes": {"bytes": wav.read_bytes(), "path": None},
        "stereo flac": write(tmp_path / "clip.flac", stereo, 16000),
        "ogg": str(write(tmp_path / "clip.ogg", mono, 16000)),
    }
    tolerances = {"uint8": 6e-3, "ogg": 2e-2}
    for name, clip in clips.items():
        found = extractor(clip, sampling_rate=16000, return_tensors="np")["input_values"]
        np.testing.assert_allclose(found, expected, atol=tolerances.get(name, 1e-4), err_msg=name)


def test_an_array_of_two_axes_is_a_batch():
    extractor = VitsWaveformFeatureExtractor()
    assert extractor(np.zeros((3, 100), np.float32), return_tensors="pt")["input_values"].shape == (3, 100)
    assert extractor(torch.zeros(3, 2, 100), return_tensors="pt")["input_values"].shape == (3, 100)


def test_kinds_of_results():
    extractor = VitsSpectrogramFeatureExtractor()
    assert isinstance(extractor(CLIPS)["input_features"], list)
    assert extractor(CLIPS, return_tensors="np")["input_features"].dtype == np.float32
    assert extractor(CLIPS, return_tensors="pt")["attention_mask"].dtype == torch.int64
    assert "attention_mask" not in extractor(CLIPS, return_attention_mask=False)
    unequal = extractor(CLIPS, padding=False)["input_features"]
    assert [len(one) for one in unequal] == [101, 57, 78]


@pytest.mark.parametrize(
    "extractor",
    [
        VitsWaveformFeatureExtractor(sampling_rate=8192, max_length=8192, padding="max_length", truncation=True),
        VitsSpectrogramFeatureExtractor(**KALDI, normalization="global", mean=[0.1] * 80, std=[2.0] * 80),
    ],
    ids=["waveform", "spectrogram"],
)
def test_saved_and_loaded_it_is_the_same(extractor, tmp_path):
    extractor.save_pretrained(tmp_path)
    loaded = type(extractor).from_pretrained(tmp_path)
    assert loaded.to_dict() == extractor.to_dict()
    assert json.loads((tmp_path / "preprocessor_config.json").read_text())["sampling_rate"] == extractor.sampling_rate
    name = extractor.model_input_names[0]
    np.testing.assert_array_equal(
        loaded(CLIPS, return_tensors="np")[name], extractor(CLIPS, return_tensors="np")[name]
    )
    assert type(AutoFeatureExtractor.from_pretrained(tmp_path)) is type(extractor)
