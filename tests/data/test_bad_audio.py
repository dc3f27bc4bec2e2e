"""What is no audio, and settings that make no sense: refused early, saying what came and what to do."""

import re

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hf_vits.data.audio import audio_problem
from hf_vits.processing.audio import VitsSpectrogramFeatureExtractor, VitsWaveformFeatureExtractor
from hf_vits.processing.waveform import audio_length, load_audio

from ..support.audio import noise, tone, write

WAVEFORM = VitsWaveformFeatureExtractor(sampling_rate=8000)
SPECTROGRAM = VitsSpectrogramFeatureExtractor(sampling_rate=8000)


def with_sample(value):
    clip = noise(1000)
    clip[500] = value
    return clip


@pytest.mark.parametrize(
    ("clip", "error", "message"),
    [
        pytest.param(with_sample(np.nan), ValueError, "NaN or infinite samples.*nan_to_num", id="nan"),
        pytest.param(with_sample(-np.inf), ValueError, "NaN or infinite", id="inf"),
        pytest.param(with_sample(-1e30), ValueError, r"got a waveform of up to 1e\+30; divide it", id="loud"),
        pytest.param(np.zeros(0, np.float32), ValueError, r"at least one sample, got shape \(0,\)", id="empty"),
        pytest.param([], ValueError, "empty batch", id="empty-list"),
        pytest.param(np.zeros((1, 2, 3, 4)), ValueError, r"\(samples,\) or \(channels, samples\)", id="4d"),
        pytest.param([np.zeros((1000, 2))], ValueError, r"\(1000, 2\); transpose", id="channels-last"),
        pytest.param([np.zeros((0, 5))], ValueError, "at least one sample", id="no-channels"),
        pytest.param(np.array(3.0), ValueError, r"got \(\)", id="0d"),
        pytest.param(np.ones(5, complex), TypeError, "dtype complex128", id="complex"),
        pytest.param(np.ones(5, bool), TypeError, "dtype bool", id="bool"),
        pytest.param(np.array(["a", "b"]), TypeError, "dtype <U1", id="strings"),
        pytest.param(torch.ones(5, dtype=torch.bool), TypeError, r"torch.bool", id="bool-tensor"),
        pytest.param(None, TypeError, "got NoneType", id="none"),
        pytest.param([[1.0, "a"]], TypeError, "a list that is neither", id="mixed-list"),
        pytest.param({"array": noise(9)}, ValueError, '"sampling_rate" too', id="array-without-rate"),
        pytest.param({"audio": noise(9)}, ValueError, r'"bytes" or "path", got \[\'audio\'\]', id="other-dict"),
        pytest.param("no/such/file.wav", FileNotFoundError, "no audio file no/such/file.wav", id="no-file"),
        pytest.param({"bytes": b"RIFF....", "path": None}, OSError, "bytes given cannot be decoded", id="bad-bytes"),
    ],
)
def test_refused(clip, error, message):
    with pytest.raises(error, match=f"(?s){message}"):
        WAVEFORM(clip, return_tensors="pt")


def test_the_clip_at_fault_is_numbered():
    with pytest.raises(ValueError, match="NaN") as caught:
        SPECTROGRAM([noise(1000), noise(1000), with_sample(np.nan)])
    assert caught.value.__notes__ == ["(clip 2 of the batch)"]


def test_files_that_hold_no_audio(tmp_path):
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("no audio")
    write(tmp_path / "silent.wav", np.zeros(0, np.float32), 8000)
    with pytest.raises(OSError, match=r"empty\.wav cannot be decoded as audio"):
        load_audio(tmp_path / "empty.wav", 8000)
    with pytest.raises(OSError, match=r"text\.wav cannot be decoded as audio"):
        load_audio(tmp_path / "text.wav", 8000)
    with pytest.raises(ValueError, match=r"silent\.wav: expected a waveform of at least one sample"):
        load_audio(tmp_path / "silent.wav", 8000)
    with pytest.raises(FileNotFoundError, match="there is no audio file"):
        load_audio(tmp_path, 8000)


@pytest.mark.parametrize("ending", ["flac", "ogg"])
def test_truncated_files(tmp_path, ending):
    path = write(tmp_path / f"clip.{ending}", tone(2, 16000), 16000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(OSError, match=r"truncated|cannot be decoded"):
        load_audio(path, 16000)


def test_fewer_samples_than_announced_are_refused(tmp_path):
    """libsndfile reads nothing of an SDS file of one block, see findings/soundfile_sds_one_block.sh."""
    soundfile.write(tmp_path / "sound.sds", np.zeros(17), 16000, "PCM_S8", format="SDS")
    with pytest.raises(OSError, match=r"sound\.sds is truncated: 17 samples are announced, 0 samples are there"):
        load_audio(tmp_path / "sound.sds", 16000)


@pytest.mark.parametrize(("ending", "subtype"), [("wav", "PCM_16"), ("wav", "FLOAT"), ("aiff", None), ("au", None)])
def test_truncated_files_of_plain_samples(tmp_path, ending, subtype):
    """libsndfile reads what is left of them without a word."""
    path = write(tmp_path / f"clip.{ending}", tone(2, 16000), 16000, subtype)
    assert len(load_audio(path, 16000)) == 32000
    assert audio_problem(path) is None
    path.write_bytes(path.read_bytes()[:20000])
    assert soundfile.info(path).frames < 32000
    with pytest.raises(OSError, match=r"is truncated: \d+ bytes of samples are missing, \d+ samples are there"):
        load_audio(path, 16000)
    assert audio_problem(path).endswith("is truncated")


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000, 0])
def test_wav_of_unknown_length(tmp_path, size):
    """As ffmpeg and SoX write it into a pipe; 0 is what Python's `wave` leaves when it is killed."""
    path = write(tmp_path / "clip.wav", tone(2, 16000), 16000)
    content = bytearray(path.read_bytes())
    place = content.index(b"data") + 4
    content[place : place + 4] = size.to_bytes(4, "little")
    path.write_bytes(content)
    assert len(load_audio(path, 16000)) == 32000
    assert audio_problem(path) is None


def test_silence_is_fine():
    silence = np.zeros(4000, np.float32)
    assert (WAVEFORM(silence, return_tensors="np")["input_values"] == 0).all()
    for fields in ({}, {"normalization": "utterance", "normalize_variance": True}, {"normalization": "min_max"}):
        extractor = VitsSpectrogramFeatureExtractor(sampling_rate=8000, **fields)
        assert np.isfinite(extractor(silence, return_tensors="np")["input_features"]).all()
    normalized = VitsWaveformFeatureExtractor(do_normalize=True)(silence, return_tensors="np")
    assert np.isfinite(normalized["input_values"]).all()


def test_too_short_for_a_window():
    with pytest.raises(
        ValueError, match=r"clip of 256 samples \(0.032 s\) is too short: windows of 512 .* 257 \(0.032"
    ):
        SPECTROGRAM(noise(256))
    with pytest.raises(ValueError, match=r"clip of 399 samples .* need at least 400"):
        VitsSpectrogramFeatureExtractor(win_length=400, center=False)(noise(399))
    assert len(SPECTROGRAM(noise(257))["input_features"][0]) == 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sampling_rate": 0}, "sampling_rate must be a whole number of Hz from 100 to 1000000, got 0"),
        ({"max_length": 0}, "max_length must be a whole number above 0, got 0"),
        ({"truncation": True}, "truncation=True needs max_length"),
        ({"padding": "max_length"}, "max_length is defined"),
        ({"padding": "shortest"}, "shortest"),
        ({"n_fft": 400, "win_length": 512}, "win_length must be at most n_fft, got 512 and 400"),
        ({"hop_length": 0}, "hop_length must be a whole number above 0, got 0"),
        ({"window_function": "kaiser"}, "window_function must be one of hann, hamming, povey, boxcar, got 'kaiser'"),
        ({"mel_scale": "bark"}, "mel_scale must be one of slaney, htk, kaldi, None, got 'bark'"),
        ({"mel_scale": None, "feature_size": 80}, r"n_fft // 2 \+ 1 = 257 bins, got 80"),
        ({"min_frequency": 4000.0, "max_frequency": 3000.0}, "frequencies must rise"),
        ({"max_frequency": 9000.0}, "half the sampling rate, 8000 Hz"),
        ({"power": 0}, "power must be above 0"),
        ({"floor": 0.0}, "floor must be above 0"),
        ({"normalization": "batch"}, "normalization must be one of None, global, utterance, min_max, got 'batch'"),
        ({"normalization": "global"}, "needs `mean` with a value for each of the 80 bins, got none"),
        ({"normalization": "global", "mean": [0] * 80, "std": [1] * 3}, "`std` .* got 3 values"),
    ],
)
def test_settings(fields, message):
    with pytest.raises(ValueError, match=message):
        VitsSpectrogramFeatureExtractor(**fields)


DTYPES = ["u1", "i1", "u2", ">i2", "i4", "i8", "u8", "f2", "f4", ">f4", "f8", "?", "c8", "O", "U1", "M8[s]"]


@given(
    st.sampled_from(DTYPES).flatmap(
        lambda dtype: hnp.arrays(np.dtype(dtype), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=40))
    ),
    st.sampled_from([None, 100, 701, 8000, 44100]),
)
@settings(max_examples=150, deadline=None)
def test_any_array_gives_finite_values_or_a_clear_error(array, rate):
    try:
        found = WAVEFORM(array, sampling_rate=rate, return_tensors="pt")
    except (TypeError, ValueError) as error:
        message = str(error)
        assert "expected" in message or "NaN" in message
    else:
        assert found["input_values"].ndim == 2
        assert found["input_values"].dtype == torch.float32
        assert found["input_values"].isfinite().all()


def without_length_frame(mp3: bytes) -> bytes:
    """Drop the first MPEG frame, which announces the length: tools that cut or stream MP3 leave it out."""
    end = next(mark.start() for mark in re.finditer(rb"\xff[\xf2\xf3\xfa\xfb]", mp3) if mark.start())
    assert b"Xing" in mp3[:end] or b"Info" in mp3[:end]
    return mp3[end:]


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("as_bytes", [False, True])
def test_mp3_without_a_length_frame_is_read_to_its_end(tmp_path, mode, as_bytes):
    """libsndfile estimates the length from the first frame: with a variable bit rate it may be a quarter."""
    rate = 16000
    seconds = np.arange(3 * rate) / rate
    waveform = np.concatenate([np.zeros(rate), 0.5 * np.sin(1000 * seconds**2)]).astype("f4")
    path = tmp_path / "clip.mp3"
    soundfile.write(path, waveform, rate, bitrate_mode=mode, compression_level=0.5)
    path.write_bytes(without_length_frame(path.read_bytes()))
    found = load_audio(path.read_bytes() if as_bytes else path, rate)
    assert 0 <= len(found) - len(waveform) < 2500  # the encoder's delay and the padding of the last frame
    delay = 1105  # samples, of LAME and of the decoder
    assert np.corrcoef(found[delay + rate : delay + 2 * rate], waveform[rate : 2 * rate])[0, 1] > 0.9
    assert audio_problem(path) is None
    assert audio_length(path) == (len(found), rate)


def test_flac_of_unknown_length_is_read_to_its_end(tmp_path):
    """STREAMINFO of a FLAC that was written into a pipe counts 0 samples."""
    path = write(tmp_path / "clip.flac", noise(100_000), 16000)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path.write_bytes(content)
    np.testing.assert_allclose(load_audio(path, 16000), noise(100_000), atol=1e-4)
    assert audio_problem(path) is None
    path.write_bytes(content[: len(content) // 2])
    assert "cannot be decoded" in audio_problem(path)


@pytest.mark.parametrize(
    ("name", "subtype"), [("clip.aiff", "DWVW_16"), ("clip.aiff", "GSM610"), ("clip.wav", "NMS_ADPCM_32")]
)
def test_codecs_that_cannot_seek_are_read_from_the_start(tmp_path, name, subtype):
    path = write(tmp_path / name, noise(70_000), 16000, subtype)  # more than a block
    samples, rate = audio_length(path)
    assert rate == 16000
    assert 70_000 <= samples < 71_000  # the last of the codec's frames is filled up
    assert len(load_audio(path, 16000)) == samples
    assert audio_problem(path) is None


@pytest.mark.parametrize("rate", [1, 2**31, 2**31 - 1, -16000, float("nan"), "16000"])
def test_impossible_sampling_rates_are_refused(rate):
    message = "sampling_rate must be a whole number of Hz from 100 to 1000000, got"
    for call in (
        lambda: WAVEFORM(noise(100), sampling_rate=rate),
        lambda: WAVEFORM({"array": noise(100), "sampling_rate": rate}),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises((ValueError, TypeError), match=r"sampling_rate.* (got|value: )"):
        VitsSpectrogramFeatureExtractor(sampling_rate=rate)


@pytest.mark.parametrize("rate", [1, 2**31 - 1])
def test_files_with_impossible_sampling_rates_are_refused(tmp_path, rate):
    path = write(tmp_path / "clip.wav", noise(100), 16000)
    content = bytearray(path.read_bytes())
    content[24:28] = rate.to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"clip\.wav: sampling_rate must be .*got {rate}"):
        load_audio(path, 16000)
