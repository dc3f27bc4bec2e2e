"""transformers' pipelines for audio and `hf-vits predict`, with saved models and processors."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from transformers import pipeline

from hf_vits import (
    VitsCtcTokenizer,
    VitsSpectrogramFeatureExtractor,
    VitsSpeechProcessor,
    VitsWaveformFeatureExtractor,
)
from hf_vits.cli import main
from hf_vits.cli.prediction.speech import own_frames
from hf_vits.hub import save_for_hub
from hf_vits.processing.windows import overlapping, window_logits, with_context

from ..support.audio import noise, tone, write
from ..support.hub import tiny_model

CLIPS = [noise(4096, 1), tone(0.5, 8192)[:3000], noise(5000, 2)]
TOKENIZER = VitsCtcTokenizer.train_characters(["the cat sat on the mat", "a dog saw the sea"])


def changing(samples: int) -> np.ndarray:
    """Return alternating noise and tones, for which even a random model predicts different classes."""
    pieces = [piece for index in range(9) for piece in (noise(1500, index), tone(0.1, 8000, 300 * (index % 5 + 1)))]
    return np.resize(np.concatenate(pieces), samples)


def tiny_waveforms() -> VitsWaveformFeatureExtractor:
    return VitsWaveformFeatureExtractor(sampling_rate=8192, pad_to_multiple_of=512)


def tiny_pictures(config) -> VitsSpectrogramFeatureExtractor:
    return VitsSpectrogramFeatureExtractor(
        sampling_rate=8000,
        feature_size=config.num_mel_bins,
        n_fft=256,
        hop_length=100,
        power=0.5,
        normalization="min_max",
        padding="max_length",
        max_length=(config.num_frames - 1) * 100,
        truncation=True,
        pad_with_silence=True,
        return_attention_mask=False,
    )


def tiny_speech(config) -> VitsSpeechProcessor:
    extractor = VitsSpectrogramFeatureExtractor(
        sampling_rate=8000,
        feature_size=config.num_mel_bins,
        n_fft=256,
        hop_length=config.hop_length,
        normalization="utterance",
        normalize_variance=True,
    )
    return VitsSpeechProcessor(extractor, TOKENIZER)


def speech_model() -> torch.nn.Module:
    """Return a random speech model, with weights scaled so that its output depends on its input."""
    model = tiny_model("branchformer", "AutoModelForCTC", vocab_size=len(TOKENIZER))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.fill_(name.endswith("weight"))
        model.ctc_head.weight *= 5
        model.ctc_head.bias.zero_()
    return model


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return {architecture: folder with a model and its processor}."""
    root = tmp_path_factory.mktemp("models")
    audiomer = tiny_model("audiomer", "AutoModelForAudioClassification")
    septr = tiny_model("septr", "AutoModelForAudioClassification")
    speech = speech_model()
    processors = {
        "audiomer": (audiomer, tiny_waveforms()),
        "septr": (septr, tiny_pictures(septr.config)),
        "branchformer": (speech, tiny_speech(speech.config)),
    }
    return {
        name: save_for_hub(model, root / name, processor, bundle=False)
        for name, (model, processor) in processors.items()
    }


@pytest.mark.parametrize("name", ["audiomer", "septr"])
def test_audio_classification(name, folders):
    classify = pipeline("audio-classification", model=str(folders[name]))
    assert type(classify.model).__name__.endswith("ForAudioClassification")
    for clip in CLIPS:
        inputs = classify.feature_extractor(clip, return_tensors="pt")
        with torch.no_grad():
            expected = classify.model(**inputs).logits[0].softmax(dim=0)
        found = classify(clip, top_k=None)
        assert [entry["score"] for entry in found] == sorted(expected.tolist(), reverse=True)
        assert {entry["label"] for entry in found} == {"cat", "dog", "eel"}
    batched = classify(CLIPS, batch_size=1)
    assert [rows[0]["label"] for rows in batched] == [classify(clip)[0]["label"] for clip in CLIPS]


def test_speech_recognition(folders):
    recognise = pipeline("automatic-speech-recognition", model=str(folders["branchformer"]))
    assert recognise.type == "ctc"
    clip = changing(16000)
    inputs = recognise.feature_extractor(clip, return_tensors="pt")
    with torch.no_grad():
        tokens = recognise.model(**inputs).logits.argmax(dim=-1)[0]
    assert recognise(clip)["text"] == recognise.tokenizer.decode(tokens)
    assert len(set(recognise(clip)["text"])) > 2
    stereo = {"array": np.stack([clip, clip]), "sampling_rate": 8000}
    assert recognise(stereo)["text"] == recognise(clip)["text"]


def test_speech_recognition_of_long_recordings_and_times(folders):
    recognise = pipeline("automatic-speech-recognition", model=str(folders["branchformer"]))
    clip = changing(40000)
    found = recognise(clip, chunk_length_s=2.0, stride_length_s=0.5, return_timestamps="word")
    spoken = recognise(clip, chunk_length_s=2.0, stride_length_s=0.5)
    assert found["text"] == spoken["text"]
    words = [chunk["text"] for chunk in found["chunks"]]
    assert " ".join(words) == " ".join(found["text"].split())
    times = [time for chunk in found["chunks"] for time in chunk["timestamp"]]
    assert times == sorted(times)
    assert times[-1] <= 5.01


def run(capsys, *argv) -> tuple[int, str, str]:
    code = main([str(argument) for argument in argv])
    return code, *capsys.readouterr()


@pytest.mark.parametrize(("name", "seconds"), [("audiomer", 0.25), ("septr", 0.1)])
def test_predict_classes(name, seconds, folders, tmp_path, capsys):
    for index, clip in enumerate(CLIPS):
        write(tmp_path / "clips" / f"{index}.wav", clip, 8000, "FLOAT")
    write(tmp_path / "clips" / "deep" / "stereo.flac", np.stack([tone(0.4, 44100)] * 2), 44100)
    figure = tmp_path / "figures" / "over_time.png"
    code, out, _ = run(
        capsys,
        "predict",
        folders[name],
        tmp_path / "clips",
        "--json",
        "--top-k",
        2,
        "--window",
        seconds,
        "--figure",
        figure,
    )
    assert code == 0
    rows = json.loads(out)["predictions"]
    assert [row["file"].rsplit("/", 1)[-1] for row in rows] == ["0.wav", "1.wav", "2.wav", "stereo.flac"]
    for row in rows:
        assert len(row["predictions"]) == 2
        times = [(window["start"], window["end"]) for window in row["windows"]]
        assert times[0][0] == 0
        assert all(end - start == pytest.approx(seconds, abs=1e-3) for start, end in times)
        assert all(later[0] <= earlier[1] for earlier, later in itertools.pairwise(times))
    assert figure.stat().st_size > 10_000


def test_a_window_too_long_for_the_model(folders, tmp_path, capsys):
    clip = write(tmp_path / "clip.wav", noise(8000), 8000)
    code, _, err = run(capsys, "predict", folders["septr"], clip, "--window", 0.5)
    assert code == 2
    assert "input_features: (batch, " in err


def test_a_short_clip_is_classified_whole(folders, tmp_path, capsys):
    clip = write(tmp_path / "clip.wav", CLIPS[1], 8192, "FLOAT")
    code, out, _ = run(capsys, "predict", folders["audiomer"], clip, "--json", "--top-k", 3)
    assert code == 0
    (row,) = json.loads(out)["predictions"]
    classify = pipeline("audio-classification", model=str(folders["audiomer"]))
    expected = classify(CLIPS[1])
    assert [entry["label"] for entry in row["predictions"]] == [entry["label"] for entry in expected]
    assert "windows" not in row


def test_a_window_longer_than_the_model_was_trained_on_is_heard_whole():
    model = tiny_model("audiomer", "AutoModelForAudioClassification")
    fixed = VitsWaveformFeatureExtractor(
        sampling_rate=8192, padding="max_length", max_length=2048, truncation=True, pad_to_multiple_of=512
    )
    clip = torch.from_numpy(changing(4096))
    with torch.no_grad():
        (found,) = window_logits(model, fixed, [clip])
        torch.testing.assert_close(found, model(clip[None]).logits[0])


def test_predict_text(folders, tmp_path, capsys):
    clip = changing(30000)
    path = write(tmp_path / "talk.wav", clip, 8000, "FLOAT")
    figure = tmp_path / "talk.png"
    code, out, _ = run(capsys, "predict", folders["branchformer"], path, "--json", "--figure", figure)
    assert code == 0
    (row,) = json.loads(out)["predictions"]
    whole = pipeline("automatic-speech-recognition", model=str(folders["branchformer"]))(clip)["text"]
    assert row["text"] == " ".join(whole.split())
    assert " ".join(word["word"] for word in row["words"]) == row["text"]
    assert figure.stat().st_size > 10_000
    code, out, _ = run(capsys, "predict", folders["branchformer"], path, "--window", 1.5)
    assert code == 0
    assert "text" in out
    code, out, _ = run(capsys, "predict", folders["branchformer"], path, "--beams", 5, "--json")
    assert code == 0
    assert "words" not in json.loads(out)["predictions"][0]


def test_predict_and_unreadable_recordings(folders, tmp_path, capsys):
    write(tmp_path / "good.wav", CLIPS[0], 8000)
    (tmp_path / "bad.wav").write_text("no audio")
    code, _, err = run(capsys, "predict", folders["audiomer"], tmp_path)
    assert code == 2
    assert "1 of 2 recording file(s) cannot be read" in err
    assert "bad.wav" in err
    code, out, _ = run(capsys, "predict", folders["audiomer"], tmp_path, "--skip-unreadable", "--json")
    assert code == 0
    result = json.loads(out)
    assert len(result["predictions"]) == len(result["unreadable"]) == 1
    with pytest.raises(SystemExit):
        run(capsys, "predict", folders["audiomer"], tmp_path, "--window", "0")
    assert "argument --window: must be above 0, got 0" in capsys.readouterr().err


def test_windows_cover_a_recording():
    for samples in (1, 99, 100, 101, 150, 1234):
        windows = overlapping(samples, 100)
        assert windows[0].start == 0
        assert windows[-1].end == samples
        assert all(window.end - window.start == min(samples, 100) for window in windows)
        assert all(later.start - earlier.start <= 50 for earlier, later in itertools.pairwise(windows))


def test_windows_with_context_follow_one_another():
    for samples in (1, 119, 120, 121, 500, 12345):
        windows = with_context(samples, 120, 5)
        assert windows[0].first == windows[0].start == 0
        assert windows[-1].last == windows[-1].end == samples
        assert len(windows) == 1 or len(windows) == math.ceil(samples / 80)
        for earlier, later in itertools.pairwise(windows):
            assert earlier.last == later.first
            assert later.first % 5 == later.start % 5 == 0
        assert max(window.end - window.start for window in windows) <= 120 + 5


def test_frames_of_windows_join_without_gap_or_repeat():
    for samples in (119, 121, 500, 12345):
        windows = with_context(samples, 120, 5)
        heard = [torch.arange(window.start, window.end - 4, 5) for window in windows]
        joined = torch.cat([own_frames(window, frames, 5) for window, frames in zip(windows, heard, strict=True)])
        assert joined.tolist() == list(range(0, samples - 4, 5))
