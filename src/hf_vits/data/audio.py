"""Where a recipe's recordings come from: folders, tables, `datasets`, and speech made with espeak-ng.

An input is a recording as the audio processors take one: a path, or a dict with "array" and "sampling_rate" or with
"bytes". Its target is a class (`CLASS_SOURCES`) or a text (`TEXT_SOURCES`).
"""

import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import datasets
import numpy as np
import soundfile
from tqdm import tqdm

from hf_vits.processing.waveform import bytes_missing
from hf_vits.recipe import DataRecipe

from .folders import Media, load_class_folders
from .splits import ChosenInputs, ColumnInputs, Inputs, Source, Split, choose_splits, column_of
from .synthetic import speech
from .tables import LABEL_COLUMNS, TEXT_COLUMNS, column_name, label_indices, load_class_table, load_table

Loaded = tuple[str, Sequence[str] | dict[str, list[str]], dict[str, Split]]

_BLOCK = 1024

# Speech Commands V2 has these words besides the commands and the digits.
OTHER_WORDS = ("backward", "bed", "bird", "cat", "dog", "follow", "forward", "happy", "house", "learn", "marvin")
OTHER_WORDS += ("sheila", "tree", "visual", "wow")
UNKNOWN = "_unknown_"
UNKNOWN_WORDS = set(speech.DIGITS + OTHER_WORDS) - {"backward", "follow", "forward", "learn"}


@dataclass(frozen=True)
class SpokenClips:
    """Clips made with espeak-ng."""

    split: speech.SpokenSplit
    sampling_rate: int

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"array": self.split[index], "sampling_rate": self.sampling_rate}


@dataclass(frozen=True)
class FileClips:
    """Clips in files."""

    paths: Sequence[Path]

    def __getitem__(self, index: int) -> Path:
        return self.paths[index]


def clip_seconds(inputs: Inputs) -> np.ndarray:
    """How long the clips of a split are, (clips,), in seconds; from the files' headers, under a progress bar."""
    if isinstance(inputs, ChosenInputs):
        return clip_seconds(inputs.inputs)[inputs.indices]
    if isinstance(inputs, SpokenClips):
        return np.diff(inputs.split.ends, prepend=0) / inputs.sampling_rate
    stored: Any = inputs
    count = len(stored.paths if isinstance(inputs, FileClips) else stored.dataset)
    with ThreadPoolExecutor() as pool:
        read = pool.map(lambda index: _seconds(inputs[index]), range(count))
        return np.asarray(list(tqdm(read, total=count, desc="Measuring recordings", unit="recording")))


def _seconds(clip: Path | Mapping[str, Any]) -> float:
    if isinstance(clip, Mapping):
        return soundfile.info(clip["path"] if clip["bytes"] is None else io.BytesIO(clip["bytes"])).duration
    return soundfile.info(clip).duration


def audio_problem(path: Path) -> str | None:
    """Why a recording cannot be read from its first to its last sample, or None if it can."""
    try:
        with soundfile.SoundFile(path) as file:
            if file.frames == 0:
                return "it has no samples"
            last = min(file.frames, _BLOCK)
            file.seek(file.frames - last)
            if bytes_missing(file) or len(file.read(last)) < last:
                return "it is truncated"
    except (soundfile.LibsndfileError, RuntimeError) as error:
        return str(error)
    return None


AUDIO = Media("recording", (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".au"), audio_problem)


def _spoken_keywords(recipe: DataRecipe) -> Loaded:
    splits = {}
    for kind, split in speech.spoken("keywords", recipe.speech).items():
        labels = [speech.KEYWORDS.index(utterance.text) for utterance in split.utterances]
        splits[kind] = Split(SpokenClips(split, recipe.speech.sampling_rate), np.asarray(labels, dtype=np.int64))
    return "keywords spoken by espeak-ng", speech.KEYWORDS, splits


def _spoken_digits(recipe: DataRecipe) -> Loaded:
    splits = {}
    for kind, split in speech.spoken("digits", recipe.speech).items():
        texts = [utterance.text for utterance in split.utterances]
        splits[kind] = Split(SpokenClips(split, recipe.speech.sampling_rate), np.asarray(texts, dtype=object))
    return "digits spoken by espeak-ng", (), splits


def _folder(recipe: DataRecipe) -> Loaded:
    class_names, files = load_class_folders(recipe, AUDIO)
    splits = {kind: Split(FileClips(paths), labels) for kind, (paths, labels) in files.items()}
    return Path(recipe.path).name, class_names, splits


def _speech_commands(recipe: DataRecipe) -> Loaded:
    """Google's Speech Commands V2 (arXiv 1804.03209), unpacked, with its lists of validation and test files."""
    root, class_names = Path(recipe.path), speech_commands_classes(recipe.num_classes)
    lists = {"validation": root / "validation_list.txt", "test": root / "testing_list.txt"}
    if missing := [path for path in lists.values() if not path.is_file()]:
        raise FileNotFoundError(f"{missing[0]} is missing; data.path is the unpacked archive of Speech Commands V2")
    names = {kind: path.read_text().split() for kind, path in lists.items()}
    held_out = {name for group in names.values() for name in group}
    every = (path.relative_to(root).as_posix() for path in sorted(root.glob("*/*.wav")))
    names["train"] = [name for name in every if name not in held_out]
    label_of = {word: class_names.index(word) for word in class_names}
    if UNKNOWN in label_of:
        label_of = dict.fromkeys(UNKNOWN_WORDS, label_of[UNKNOWN]) | label_of
    splits = {}
    for kind, group in names.items():
        kept = [name for name in group if Path(name).parent.name in label_of]
        labels = [label_of[Path(name).parent.name] for name in kept]
        splits[kind] = Split(FileClips([root / name for name in kept]), np.asarray(labels, dtype=np.int64))
    return "Speech Commands V2", class_names, splits


def speech_commands_classes(number: int | None) -> list[str]:
    """Names of the 35, 20 or 12 classes that Audiomer tells apart (Audiomer-PyTorch, datamodules/), in its order.

    The 20 are the ten commands and the digits. Of the 12, one is silence, without recordings, and one the
    words that are no commands, but for four that belong to no class.
    """
    classes = {
        35: sorted((*speech.KEYWORDS, *speech.DIGITS, *OTHER_WORDS)),
        20: [*speech.KEYWORDS, *speech.DIGITS],
        12: ["_silence_", UNKNOWN, *speech.KEYWORDS],
    }
    if number is not None and number not in classes:
        raise ValueError(f"Speech Commands has tasks with 35, 20 and 12 classes, data.num_classes asks for {number}")
    return classes[number or 35]


def _class_table(recipe: DataRecipe) -> Loaded:
    class_names, files = load_class_table(recipe, AUDIO, "audio")
    splits = {kind: Split(FileClips(paths), labels) for kind, (paths, labels) in files.items()}
    return Path(recipe.path).stem, class_names, splits


def _text_table(recipe: DataRecipe) -> Loaded:
    files = load_table(recipe, AUDIO, "audio", "text", TEXT_COLUMNS)
    splits = {kind: Split(FileClips(paths), np.asarray(texts, dtype=object)) for kind, (paths, texts) in files.items()}
    return Path(recipe.path).stem, (), splits


def _datasets(recipe: DataRecipe, target: Literal["label", "text"]) -> Loaded:
    """A `datasets` dataset with a column of recordings and one of classes, as class labels or by name, or of texts."""
    name = str(recipe.path)
    available = datasets.load_dataset(name, recipe.config)
    loaded = choose_splits(recipe, available)
    if not loaded:
        raise ValueError(f"{name} has no training split, only {sorted(available)}; name one by data.splits.train")
    clips = {kind: _stored_clips(recipe, dataset) for kind, dataset in loaded.items()}
    columns = {kind: _target_column(recipe, dataset, target) for kind, dataset in loaded.items()}
    feature = loaded["train"].features[columns["train"]]
    named = isinstance(feature, datasets.ClassLabel)
    values = {
        kind: [feature.int2str(value) if named else str(value) for value in dataset[columns[kind]]]
        for kind, dataset in loaded.items()
    }
    if target == "text":
        return name, (), {kind: Split(clips[kind], np.asarray(values[kind], dtype=object)) for kind in loaded}
    class_names = feature.names if named else sorted(set(values["train"]))
    return (
        name,
        class_names,
        {kind: Split(clips[kind], label_indices(name, kind, values[kind], class_names)) for kind in loaded},
    )


def _stored_clips(recipe: DataRecipe, dataset: datasets.Dataset) -> ColumnInputs:
    """Recordings as they are stored: `datasets` would decode them with torchcodec."""
    name = recipe.columns.get("audio") or column_of(recipe.path, dataset, datasets.Audio)
    return ColumnInputs(dataset.select_columns([name]).cast_column(name, datasets.Audio(decode=False)), name)


def _target_column(recipe: DataRecipe, dataset: datasets.Dataset, target: Literal["label", "text"]) -> str:
    """The column that data.columns names, or else the one of class labels, or one of a usual name."""
    if target not in recipe.columns and target == "label":
        for name, feature in dataset.features.items():
            if isinstance(feature, datasets.ClassLabel):
                return name
    usual = LABEL_COLUMNS if target == "label" else TEXT_COLUMNS
    return column_name(recipe, dataset.features, target, usual)


CLASS_SOURCES: dict[str, Source] = {
    "folder": _folder,
    "csv": _class_table,
    "jsonl": _class_table,
    "datasets": partial(_datasets, target="label"),
    "speech_commands": _speech_commands,
    "spoken_keywords": _spoken_keywords,
}
TEXT_SOURCES: dict[str, Source] = {
    "csv": _text_table,
    "jsonl": _text_table,
    "datasets": partial(_datasets, target="text"),
    "spoken_digits": _spoken_digits,
}
