"""Recordings of recipes: speech from espeak-ng, folders, tables, `datasets`, Speech Commands."""

import csv
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest
import soundfile
from huggingface_hub.errors import StrictDataclassError

from hf_vits.conversion.systems.audiomer import CLASSES
from hf_vits.data.audio import CLASS_SOURCES, TEXT_SOURCES, clip_seconds
from hf_vits.data.splits import hold_out, load_classes, without_unreadable
from hf_vits.data.synthetic import speech
from hf_vits.data.synthetic.espeak import Espeak
from hf_vits.recipe import DataRecipe, SpeechRecipe
from hf_vits.training.examples.recordings import read

RATE = 8000


def small(tmp_path, **fields) -> SpeechRecipe:
    return SpeechRecipe(
        **{"train": 40, "validation": 10, "test": 20, "sampling_rate": RATE, "cache": str(tmp_path)} | fields
    )


def write_tone(path: Path, frequency: float = 440, seconds: float = 0.2, rate: int = RATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(seconds * rate)) / rate
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * frequency * time), rate)


# espeak-ng


@pytest.fixture(scope="module")
def voice() -> Espeak:
    with Espeak() as made:
        yield made


def test_a_fresh_voice_says_the_same_again():
    said = []
    for _ in range(2):
        with Espeak() as voice:
            said.append([voice.speak("seven", name) for name in ("en-us+f3", "en-gb-scotland+m3", "en-us+f3")])
    assert all(np.array_equal(first, again) for first, again in zip(*said, strict=True))
    assert not np.array_equal(said[0][0], said[0][2])  # which is why it has to be a fresh one


def test_speech_follows_its_arguments(voice):
    seven = voice.speak("seven", "en-us+f3", rate=150)
    assert seven.dtype == np.int16
    assert 0.2 < len(seven) / voice.sampling_rate < 1.5
    assert len(voice.speak("seven", "en-us+f3", rate=300)) < 0.8 * len(seven)
    assert len(voice.speak("seventy seven", "en-us+f3", rate=150)) > 1.2 * len(seven)


def test_every_voice_speaks(voice):
    speakers = [speaker for group in speech.SPEAKERS.values() for speaker in group]
    assert len(speakers) == len(set(speakers))
    for name in [*(f"en-us+{speaker}" for speaker in speakers), *(f"{accent}+f1" for accent in speech.ACCENTS)]:
        assert np.abs(voice.speak("go", name).astype(int)).max() > 3000, name


@pytest.mark.parametrize("name", ["en-us+nobody", "klingonese", "klingonese+f1"])
def test_a_voice_that_is_not_there_is_named(voice, name):
    with pytest.raises(ValueError, match=f"no voice '{name}'".replace("+", r"\+")):
        voice.speak("go", name)


def test_a_text_without_sound_is_refused(voice):
    with pytest.raises(ValueError, match="says nothing of ''"):
        voice.speak("", "en-us+f1")


# spoken data


def test_splits_have_voices_of_their_own(tmp_path):
    splits = speech.spoken("keywords", small(tmp_path))
    speakers = {name: {u.voice.partition("+")[2] for u in split.utterances} for name, split in splits.items()}
    assert speakers["train"] <= set(speech.SPEAKERS["train"])
    assert not speakers["test"] & (speakers["train"] | speakers["validation"])
    assert not speakers["validation"] & speakers["train"]
    assert [len(splits[name]) for name in speech.SPLITS] == [40, 10, 20]
    assert {u.text for u in splits["validation"].utterances} == set(speech.KEYWORDS)


def test_clips_are_made_once_and_again_the_same(tmp_path):
    recipe = small(tmp_path / "first")
    first = speech.spoken("digits", recipe)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "first").rglob("*.npy")}
    kept = speech.spoken("digits", recipe)
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "first").rglob("*.npy")}
    again = speech.spoken("digits", small(tmp_path / "second"))
    other = speech.spoken("digits", small(tmp_path / "first", seed=1))
    for name in speech.SPLITS:
        assert first[name].utterances == kept[name].utterances == again[name].utterances
        assert np.array_equal(first[name].samples, kept[name].samples)
        assert np.array_equal(first[name].samples, again[name].samples)
        assert first[name].utterances != other[name].utterances
    assert len(list((tmp_path / "first").iterdir())) == 6


def test_more_clips_begin_with_the_same(tmp_path):
    few, more = (speech.plan("keywords", "train", small(tmp_path, train=count)) for count in (10, 15))
    assert more[:10] == few


def test_processes_that_make_the_same_clips_do_not_disturb_one_another(tmp_path):
    recipe = small(tmp_path)
    made = [speech._make("keywords", "test", recipe) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda split: speech._write(tmp_path / "clips", split), made))
    assert [path.name for path in tmp_path.iterdir()] == ["clips"]
    assert np.array_equal(np.load(tmp_path / "clips" / "samples.npy"), made[0].samples)


@pytest.mark.parametrize("seconds", [0.5, 1.0, 2.0])
def test_keywords_have_the_length_asked_for(tmp_path, seconds):
    split = speech.spoken("keywords", small(tmp_path, train=1, validation=1, seconds=seconds))["test"]
    assert {len(split[index]) for index in range(len(split))} == {round(seconds * RATE)}
    assert all(np.abs(split[index]).max() > 1000 for index in range(len(split)))


def say_afresh(utterance: speech.Utterance, *form) -> np.ndarray:
    with Espeak() as voice:
        return speech.say(voice, utterance, *form).astype(float)


def test_noise_is_as_loud_as_it_says():
    utterance = speech.plan("keywords", "train", SpeechRecipe())[3]
    for decibels in (0.0, 20.0):
        noisy = speech.Utterance(**vars(utterance) | {"noise": decibels, "level": 0.2, "color": 1.0})
        clean = speech.Utterance(**vars(noisy) | {"noise": 200.0})
        form = (RATE, 1.0, 0.0)
        loud, quiet = (say_afresh(one, *form) for one in (noisy, clean))
        heard = np.flatnonzero(np.abs(quiet) > 50)
        power = np.mean(quiet[heard[0] : heard[-1] + 1] ** 2)
        ratio = 10 * np.log10(power / np.mean((loud - quiet) ** 2))
        assert ratio == pytest.approx(decibels, abs=0.5)


def test_digits_are_said_in_full(tmp_path):
    recipe = small(tmp_path, digits=[2, 4], margin=0.5)
    split = speech.spoken("digits", recipe)["train"]
    counts = {len(u.text.split()) for u in split.utterances}
    assert counts == {2, 3, 4}
    seconds = np.asarray([len(split[index]) for index in range(len(split))]) / RATE - 0.5
    numbers = np.asarray([len(u.text.split()) for u in split.utterances])
    assert (seconds > 0.15 * numbers).all()
    assert np.corrcoef(seconds, numbers)[0, 1] > 0.6


def test_spoken_sources(tmp_path):
    splits = load_classes(DataRecipe(source="spoken_keywords", speech=small(tmp_path)), CLASS_SOURCES)
    assert splits.class_names == speech.KEYWORDS
    assert splits.train.labels.tolist() == [number % 10 for number in range(40)]
    waveform = read(splits.train, 0, RATE)
    assert waveform.shape == (RATE,)
    assert 0.05 < waveform.abs().max() <= 1
    assert read(splits.train, 0, 2 * RATE).shape == (2 * RATE,)
    _, _, texts = TEXT_SOURCES.load(DataRecipe(source="spoken_digits", speech=small(tmp_path)))
    assert set(" ".join(texts["test"].labels).split()) <= set(speech.DIGITS)
    lengths = [len(read(texts["test"], index, RATE)) / RATE for index in range(20)]
    assert clip_seconds(texts["test"].inputs) == pytest.approx(lengths)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"digits": [5, 3]}, r"data.speech.digits is \[lowest, highest\], got \[5, 3\]"),
        ({"noise": [1.0]}, "data.speech.noise"),
        ({"rate": [20, 90]}, "80 to 450 words a minute"),
        ({"train": 0}, "must be positive"),
    ],
)
def test_speech_recipes_are_checked(fields, message):
    with pytest.raises(StrictDataclassError, match=message):
        SpeechRecipe(**fields)


# files


def write_table(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        if path.suffix == ".jsonl":
            file.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


@pytest.fixture
def tones(tmp_path) -> Path:
    """Twelve tones, low and high, of 8 and of 16 kHz, mono and stereo, WAV and FLAC."""
    for number in range(12):
        pitch, ending = ("low", "high")[number % 2], (".wav", ".flac")[number % 3 == 0]
        write_tone(tmp_path / pitch / f"{number}{ending}", 300 + 600 * (number % 2), rate=RATE * (1 + number % 2))
    return tmp_path


def tone_rows(tones: Path) -> list[dict]:
    files = sorted(path.relative_to(tones) for path in tones.glob("*/*"))
    splits = ["train", "train", "validation", "test"]
    return [
        {"file": str(file), "pitch": file.parent.name, "text": f"it is {file.parent.name}", "part": splits[i % 4]}
        for i, file in enumerate(files)
    ]


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_table_with_a_column_of_splits(tones, ending):
    table = tones / f"tones.{ending}"
    write_table(table, tone_rows(tones))
    columns = {"label": "pitch", "split": "part"}
    splits = load_classes(DataRecipe(source=ending, path=str(table), columns=columns), CLASS_SOURCES)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (6, 3, 3)
    assert splits.class_names == ["high", "low"]
    for index in range(6):
        waveform = read(splits.train, index, RATE)
        spectrum = np.abs(np.fft.rfft(waveform.numpy()))
        assert spectrum.argmax() * 5 == pytest.approx((900, 300)[splits.train.labels[index]], abs=5)
    assert clip_seconds(splits.train.inputs) == pytest.approx(0.2)


def test_a_directory_of_tables_with_texts(tones):
    rows = tone_rows(tones)
    for name, part in (("train", rows[:8]), ("dev", rows[8:10]), ("test", rows[10:])):
        write_table(tones / f"{name}.csv", part)
    name, classes, splits = TEXT_SOURCES.load(DataRecipe(source="csv", path=str(tones)))
    assert (name, len(classes)) == (tones.name, 0)
    assert {kind: len(split) for kind, split in splits.items()} == {"train": 8, "validation": 2, "test": 2}
    assert splits["test"].labels[0] == rows[10]["text"]


def test_texts_without_splits_are_held_out(tones):
    write_table(tones / "all.csv", [{key: row[key] for key in ("file", "text")} for row in tone_rows(tones)])
    recipe = DataRecipe(source="csv", path=str(tones / "all.csv"), validation_fraction=0.25)
    name, _, splits = TEXT_SOURCES.load(recipe)
    train, validation, test = hold_out(name, splits, recipe, by_class=False)
    assert (len(train), len(validation), len(test)) == (9, 3, 3)
    assert clip_seconds(validation.inputs) == pytest.approx([0.2] * 3)


def test_wrong_tables_are_named(tones):
    rows = tone_rows(tones)
    table = tones / "tones.csv"
    recipe = DataRecipe(source="csv", path=str(table))
    with pytest.raises(FileNotFoundError):
        TEXT_SOURCES.load(recipe)
    write_table(table, [{"file": row["file"], "word": row["text"]} for row in rows])
    with pytest.raises(ValueError, match=r"no column text or .*, only file, word; name it by data\.columns\.text"):
        TEXT_SOURCES.load(recipe)
    write_table(table, [{"file": row["file"].replace("0", "00"), "text": row["text"]} for row in rows])
    with pytest.raises(OSError, match=r"2 recording file\(s\) cannot be read"):
        TEXT_SOURCES.load(recipe)


def test_folders_and_bad_recordings(tones):
    recipe = DataRecipe(source="folder", path=str(tones), validation_fraction=0.2)
    splits = load_classes(recipe, CLASS_SOURCES)
    assert splits.class_names == ["high", "low"]
    assert len(splits.train) + len(splits.test) == 12
    (tones / "low" / "none.wav").write_bytes(b"")
    (tones / "low" / "text.flac").write_text("not audio")
    soundfile.write(tones / "high" / "silent.wav", np.zeros(0), RATE)
    whole = (tones / "low" / "0.flac").read_bytes()
    (tones / "low" / "cut.flac").write_bytes(whole[: len(whole) // 2])
    part = CLASS_SOURCES.load(recipe).splits["train"]
    with pytest.raises(OSError, match=r"4 recording file\(s\) cannot be read") as raised:
        without_unreadable(part, recipe)
    assert all(name in str(raised.value) for name in ("none.wav", "text.flac", "silent.wav", "cut.flac"))
    assert len(without_unreadable(part, replace(recipe, skip_unreadable=True))) == 12


@pytest.fixture
def stored(tones) -> Path:
    """The tones as datasets lie on the Hub: parquet files that hold the recordings."""
    rows = tone_rows(tones)
    recordings = [{"bytes": (tones / row["file"]).read_bytes(), "path": row["file"]} for row in rows]
    columns = {"audio": recordings} | {key: [row[key] for row in rows] for key in ("pitch", "text")}
    dataset = datasets.Dataset.from_dict(columns).cast_column("audio", datasets.Audio(decode=False))
    (tones / "stored").mkdir()
    dataset.to_parquet(tones / "stored" / "train.parquet")
    named = dataset.class_encode_column("pitch")
    (tones / "named").mkdir()
    named.to_parquet(tones / "named" / "train.parquet")
    return tones


def test_datasets_with_names_or_texts(stored):
    path = str(stored / "stored")
    recipe = DataRecipe(source="datasets", path=path, columns={"label": "pitch"}, validation_fraction=0.25)
    splits = load_classes(recipe, CLASS_SOURCES)
    assert splits.class_names == ["high", "low"]
    assert len(splits.train) == 9
    assert read(splits.train, 0, RATE).shape == (round(0.2 * RATE),)
    assert clip_seconds(splits.train.inputs) == pytest.approx([0.2] * 9)
    _, _, texts = TEXT_SOURCES.load(DataRecipe(source="datasets", path=path))
    assert set(texts["train"].labels) == {"it is low", "it is high"}


def test_datasets_with_class_labels(stored):
    recipe = DataRecipe(source="datasets", path=str(stored / "named"), validation_fraction=0.25)
    splits = load_classes(recipe, CLASS_SOURCES)
    assert list(splits.class_names) == ["high", "low"]
    for index in range(len(splits.test)):
        spectrum = np.abs(np.fft.rfft(read(splits.test, index, RATE).numpy()))
        assert spectrum.argmax() * 5 == pytest.approx((900, 300)[splits.test.labels[index]], abs=5)


@pytest.mark.parametrize("number", [12, 20, 35])
def test_speech_commands(tmp_path, number):
    words = ("yes", "no", "seven", "cat", "forward")
    for word in words:
        for take in range(4):
            write_tone(tmp_path / word / f"speaker{take}_nohash_0.wav")
    write_tone(tmp_path / "_background_noise_" / "pink_noise.wav")
    (tmp_path / "validation_list.txt").write_text("".join(f"{word}/speaker2_nohash_0.wav\n" for word in words))
    (tmp_path / "testing_list.txt").write_text("".join(f"{word}/speaker3_nohash_0.wav\n" for word in words))
    recipe = DataRecipe(source="speech_commands", path=str(tmp_path), num_classes=number)
    splits = load_classes(recipe, CLASS_SOURCES)
    assert len(splits.class_names) == number
    assert list(splits.class_names) == CLASSES[number]
    names = [splits.class_names[label] for label in splits.test.labels]
    expected = {12: ["yes", "no", "_unknown_", "_unknown_"], 20: ["yes", "no", "seven"], 35: list(words)}[number]
    assert sorted(names) == sorted(expected)
    assert len(splits.train) == 2 * len(splits.test) == 2 * len(splits.validation)


def test_speech_commands_needs_its_lists_and_a_known_task(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"validation_list\.txt is missing; data\.path is the unpacked archive"
    ):
        load_classes(DataRecipe(source="speech_commands", path=str(tmp_path)), CLASS_SOURCES)
    with pytest.raises(ValueError, match=r"with 35, 20 and 12 classes, data\.num_classes asks for 10"):
        load_classes(DataRecipe(source="speech_commands", path=str(tmp_path), num_classes=10), CLASS_SOURCES)
