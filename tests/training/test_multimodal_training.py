"""Videos with sound and captions: sources, clips read with their sound, pretraining with VATT, fine-tuning from it."""

import csv
import json

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForVideoClassification, pipeline

from hf_vits import VattForPreTraining, VattProcessor
from hf_vits.cli import main
from hf_vits.conversion.systems.vatt import model_class
from hf_vits.data.audiovisual import SOURCES
from hf_vits.data.splits import without_unreadable
from hf_vits.data.synthetic.moving_digits import write_video
from hf_vits.evaluation.retrieval import groups_of_different, recall
from hf_vits.evaluation.zero_shot import classify_by_names
from hf_vits.processing.clips import ClipReader
from hf_vits.recipe import DataRecipe, SpeechRecipe, load_recipe
from hf_vits.training import train
from hf_vits.training.building import build_model
from hf_vits.training.building.model import changed_processor
from hf_vits.training.examples.batches import SampleKey
from hf_vits.training.tasks import load as load_task

from ..support.video import numbered, numbers_in

SPEECH = SpeechRecipe(train=24, validation=10, test=10, seconds=0.8)
ENCODER = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
VIDEO = {**ENCODER, "image_size": 32, "num_frames": 8, "tubelet_size": [4, 16, 16]}
SPECTROGRAM = {"input_type": "spectrogram", "patch_size": [4, 80], "num_frames": 8, "num_mel_bins": 80}
TEXT = {**ENCODER, "vocab_size": 32, "embedding_size": 8, "max_position_embeddings": 6}
SHARED = {"pre_projection": True, "post_projection_size": 16}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the speaking digits are."""
    return tmp_path_factory.mktemp("speaking")


def recipe_of(folder, directory, **sections):
    parts = {
        "video_config": VIDEO | SHARED,
        "audio_config": {**ENCODER, **SPECTROGRAM, **SHARED},
        "text_config": {**TEXT, **SHARED, "position_embedding_type": "absolute", "use_bias": True},
    }
    spaces = {"shared_encoder": True, "video_audio_size": 16, "video_text_size": 8}
    speech = {"train": SPEECH.train, "validation": 10, "test": 10, "seconds": 0.8}
    return {
        "task": "multimodal-pretraining",
        "model": {"system": "vatt", "variant": "ut_fac_medium", "config": parts | spaces},
        "data": {"source": "speaking_digits", "path": str(folder), "speech": speech, "captions": 2},
        "augmentation": {"crop_scale": [0.7, 1.0]},
        "audio": {"noise": 1.0},
        "optimizer": {"learning_rate": 0.002},
        "train": {"length": "3 steps", "batch_size": 8, "log_every": "1 step", "save_every": None},
        "output": {"directory": str(directory)},
    } | sections


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    """The directory of a short run of a modality-agnostic model."""
    directory = tmp_path_factory.mktemp("run") / "vatt"
    train(recipe_of(folder, directory))
    return directory


def load(source, path, **settings):
    return SOURCES.load(DataRecipe(source=source, path=str(path), **settings))


def rows_of(table):
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


# clips with sound


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory):
    """60 numbered frames at 10 per second, whose sound at 8 kHz is the number of the sample."""
    path = tmp_path_factory.mktemp("clips") / "long.mkv"
    write_video(path, numbered(range(60)), 10, (np.arange(44_000) // 2).astype(np.int16), 8000)
    return path


@pytest.mark.parametrize(("first", "seconds", "samples"), [(0, 0.5, 4000), (35, 0.8, 6400), (50, 1.0, 4000)])
def test_sound_begins_with_the_first_frame(long_clip, first, seconds, samples):
    with ClipReader(long_clip) as reader:
        frames, sound = reader.read_clip([first, first + 4, first + 2], seconds, 8000)
        assert numbers_in(frames) == [first, first + 4, first + 2]
        assert numbers_in(reader.read([first + 1])) == [first + 1]  # the file can be read on
    expected = np.arange(first * 800, first * 800 + samples) // 2
    np.testing.assert_array_equal((sound * 32768).numpy().round(), expected)


def test_sound_after_its_end_is_empty_and_a_silent_film_has_none(long_clip, tmp_path):
    with ClipReader(long_clip) as reader:
        assert len(reader.read_clip([57], 0.1, 16_000).sound) == 0
    write_video(tmp_path / "silent.mkv", numbered(range(5)), 10)
    with ClipReader(tmp_path / "silent.mkv") as reader:
        frames, sound = reader.read_clip([3, 1], 1.0, 8000)
    assert numbers_in(frames) == [3, 1]
    assert sound is None
    with pytest.raises(IndexError, match="has frames 0 to 59, but 60 to 60"), ClipReader(long_clip) as reader:
        reader.read_clip([60], 1.0, 8000)


# sources


def test_speaking_digits_say_and_name_the_digit(folder):
    loaded = load("speaking_digits", folder, speech=SPEECH)
    assert {kind: len(split) for kind, split in loaded.splits.items()} == {"train": 24, "validation": 10, "test": 10}
    words = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    train_split = loaded.splits["train"]
    captions = [train_split.inputs[index].captions for index in range(24)]
    assert [not own for own in captions] == [index % 10 == 7 for index in range(24)]
    assert all(words[label] in own[0] for own, label in zip(captions, train_split.labels, strict=True) if own)
    with ClipReader(train_split.inputs[3].path) as silent, ClipReader(train_split.inputs[0].path) as heard:
        assert silent.sound_stream is None
        clip = heard.read_clip([0, 7], 0.8, 16_000)
    assert clip.frames.shape == (2, 32, 32, 3)
    assert clip.sound.shape == (12_800,)
    assert clip.sound.abs().max() > 0.1
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    load("speaking_digits", folder, speech=SPEECH)
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_rows_of_a_video_are_its_captions(long_clip):
    table = long_clip.with_name("list.jsonl")
    rows = [("long.mkv", "a ramp"), ("long.mkv", "sounds rise"), ("long.mkv", " ")]
    table.write_text("".join(json.dumps({"file": name, "sentence": text}) + "\n" for name, text in rows))
    (kind, split), *others = load("jsonl", table).splits.items()
    assert (kind, others) == ("train", [])
    assert split.inputs[0] == (long_clip, ("a ramp", "sounds rise"))
    assert split.labels.tolist() == [-1]
    with pytest.raises(ValueError, match=r"has no column said, only file, sentence; name it by data.columns.text"):
        load("jsonl", table, columns={"text": "said"})


def test_a_folder_has_captions_beside_its_videos(long_clip, tmp_path):
    (tmp_path / "train" / "deep").mkdir(parents=True)
    for name in ("one.mkv", "deep/two.mkv"):
        (tmp_path / "train" / name).write_bytes(long_clip.read_bytes())
    (tmp_path / "train" / "one.txt").write_text("first line\n\nsecond line\n")
    split = load("folder", tmp_path).splits["train"]
    assert [split.inputs[i].captions for i in range(2)] == [("first line", "second line"), ()]
    (tmp_path / "train" / "bad.mp4").write_bytes(b"none")
    with pytest.raises(OSError, match=r"1 video file\(s\) cannot be read"):
        without_unreadable(load("folder", tmp_path).splits["train"], DataRecipe(source="folder", path=str(tmp_path)))
    (tmp_path / "train" / "deep" / "two.mkv").unlink()
    with pytest.raises(FileNotFoundError, match="has no video files"):
        load("folder", tmp_path / "train" / "deep")


# samples


def test_missing_sound_and_captions_are_masked(folder, tmp_path):
    recipe = load_recipe(recipe_of(folder, tmp_path))
    task = load_task(recipe.task)
    splits = task.load_splits(recipe.data)
    model, processor = build_model(recipe.model, {}, task)
    processor = task.fit_processor(recipe, processor, splits)
    assert len(processor.tokenizer) <= 32
    assert processor.tokenizer.model_max_length == 6
    training = task.training_set(recipe, model, processor, splits.train)
    heard, silent, wordless = (training[SampleKey(index, 5, None, 0, 0)] for index in (0, 3, 7))
    assert [int(sample["audio_mask"]) for sample in (heard, silent, wordless)] == [1, 0, 1]
    assert [int(sample["text_mask"]) for sample in (heard, silent, wordless)] == [1, 1, 0]
    assert not silent["input_features"].any()
    assert heard["input_features"].any()
    assert heard["input_ids"].shape == (2, 6)
    assert heard["input_ids"][0].any()
    assert not heard["input_ids"][1].any()
    assert not wordless["input_ids"].any()
    assert heard["pixel_values"].shape == (8, 3, 32, 32)
    again = training[SampleKey(0, 5, None, 0, 0)]
    assert all(torch.equal(value, again[name]) for name, value in heard.items())
    # What is masked is no part of the loss.
    batch = {name: torch.stack([heard[name], silent[name]]) for name in heard if name != "labels"}
    loss = model.eval()(**batch).video_audio_loss
    batch["input_features"][1] = 1
    torch.testing.assert_close(model(**batch).video_audio_loss, loss)
    assert model(**batch | {"audio_mask": torch.ones(2)}).video_audio_loss != loss


# runs


def test_a_run_leaves_encoders_that_classifiers_start_from(run, folder, tmp_path):
    results = json.loads((run / "results.json").read_text())
    names = {"sound_recall", "text_recall", "linear_accuracy", "untrained_linear_accuracy"}
    assert set(results["test"]) == names
    assert all(0 <= value <= 1 for value in results["test"].values())
    assert {"curves.png", "similarities.png"} <= {path.name for path in run.iterdir()}
    pretrained = VattForPreTraining.from_pretrained(run).eval()
    clips = torch.rand(2, 8, 3, 32, 32)
    features = pretrained.get_video_features(clips).last_hidden_state
    alone = AutoModel.from_pretrained(run / "video").eval()
    assert alone.config.kept_token_fraction == 1
    torch.testing.assert_close(alone(clips).last_hidden_state, features)
    classifier = AutoModelForVideoClassification.from_pretrained(run / "video").eval()
    torch.testing.assert_close(classifier.model(clips).last_hidden_state, features)
    larger = {**VIDEO, **SHARED, "image_size": 48}
    recipe = recipe_of(
        folder,
        tmp_path,
        task="video-classification",
        model={
            "system": "vatt",
            "variant": "vit_agnostic_medium_k400",
            "config": larger,
            "initialize_from": {"pretrained": str(run)},
        },
    )
    tuned = build_model(load_recipe(recipe).model, {}, load_task("video-classification"))[0].eval()
    torch.testing.assert_close(tuned.model(clips).last_hidden_state, features, atol=1e-4, rtol=1e-4)


def test_a_classifier_of_sounds_starts_from_all_modalities(run):
    fields = {**ENCODER, **SPECTROGRAM, **SHARED, "num_labels": 10}
    pretrained = VattForPreTraining.from_pretrained(run).eval()
    classifier = model_class(fields)(model_class(fields).config_class(**fields)).eval()
    classifier.initialize_from(pretrained)
    sounds = torch.rand(2, 8, 80)
    expected = pretrained.get_audio_features(input_features=sounds).last_hidden_state
    torch.testing.assert_close(classifier.model(input_features=sounds).last_hidden_state, expected)
    with pytest.raises(ValueError, match="starts from VATT of audio or of all modalities, got a VattVideoModel"):
        classifier.initialize_from(pretrained.export("video"))
    fields |= {"num_attention_heads": 4, "intermediate_size": 32}
    other = model_class(fields)(model_class(fields).config_class(**fields))
    with pytest.raises(ValueError, match=r"num_attention_heads, encoder\.layers\.0\.mlp\.down\.weight"):
        other.initialize_from(pretrained)


def test_recipes_that_cannot_be(folder, tmp_path, run):
    recipe = recipe_of(folder, tmp_path / "out")
    with pytest.raises(ValueError, match=r"train\.accumulation must be 1, got 2"):
        train(recipe, ["train.accumulation=2"])
    with pytest.raises(ValueError, match=r"model\.processor: VattProcessor has no image_mean"):
        train(recipe, ["model.processor.image_mean=[0.5]"])
    processor = build_model(load_recipe(recipe).model, {}, load_task(recipe["task"]))[1]
    changed = changed_processor(processor, {"video_processor": {"sampling_rate": 2}})
    assert (changed.video_processor.sampling_rate, processor.video_processor.sampling_rate) == (2, 1)


# retrieval


def test_recall_is_the_fraction_of_own_items_that_are_nearest():
    items = torch.eye(4)
    queries = items[[0, 1, 3, 2]] * 3
    assert recall(queries, items, np.array([[0, 1, 2, 3]])) == 0.5
    assert recall(queries, items, np.array([[0, 1]])) == 1.0


def test_groups_have_different_names():
    groups = groups_of_different(["a", "b", "a", "c", "b", "a", "", ""], 2)
    assert groups.tolist() == [[0, 1], [3, 6], [2, 4]]
    with pytest.raises(ValueError, match="retrieval needs 10 items of different names, got 2 names of 3"):
        groups_of_different(["a", "b", "a"], 10)


# zero-shot classification


def test_videos_are_classified_by_names(run, folder, capsys):
    model, processor = VattForPreTraining.from_pretrained(run), VattProcessor.from_pretrained(run)
    video = load("speaking_digits", folder, speech=SPEECH).splits["test"].inputs[0].path
    found = classify_by_names(model, processor, [video, video], ["three", "four", "nine"], ["{}", "the digit {}"])
    inputs = processor(
        videos=[video], text=["three", "the digit three", "nine", "the digit nine"], return_tensors="pt"
    )
    outputs = model.eval()(**inputs, return_loss=False)
    three, nine = torch.nn.functional.normalize(outputs.text_embeds, dim=-1).unflatten(0, (2, 2)).mean(1)
    scores = [torch.cosine_similarity(outputs.video_text_embeds[0], name, dim=0) for name in (three, nine)]
    expected = ((scores[0] - scores[1]) / model.config.temperature).exp()
    torch.testing.assert_close(found[0, 0] / found[0, 2], expected)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(2))
    for names, templates, message in (
        (["three"], ["no place"], "templates with {}"),
        (["cat"], ["{}"], "knows no word of 'cat'"),
    ):
        with pytest.raises(ValueError, match=message):
            classify_by_names(model, processor, [video], names, templates)
    code = main(["predict", str(run), str(video), "--label", "nine", "--label", "three", "--json"])
    printed = json.loads(capsys.readouterr().out)
    scores = classify_by_names(model, processor, [video], ["three", "nine"])[0]
    found = {row["label"]: row["score"] for row in printed["predictions"][0]["predictions"]}
    assert code == 0
    assert found == pytest.approx({"three": scores[0].item(), "nine": scores[1].item()}, abs=1e-5)
    with pytest.raises(ValueError, match='modality must be "video" or "audio"'):
        classify_by_names(model, processor, [video], ["three"], modality="text")


def test_sounds_are_classified_by_names_as_in_the_pipeline(run):
    processor = VattProcessor.from_pretrained(run)
    model = VattForPreTraining.from_pretrained(run)
    wave = np.random.default_rng(0).standard_normal(processor.feature_extractor.max_length).astype(np.float32)
    names = ["three", "nine"]
    chosen = pipeline("zero-shot-audio-classification", model=str(run))(
        wave, candidate_labels=names, hypothesis_template="the digit {}"
    )
    scores = classify_by_names(model, processor, [wave], names, ["the digit {}"], modality="audio")[0].tolist()
    expected = dict(zip(names, scores, strict=True))
    assert {row["label"]: row["score"] for row in chosen} == pytest.approx(expected, abs=1e-5)
