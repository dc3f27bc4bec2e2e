"""Speech made with espeak-ng: single keywords, and strings of digits, in many voices, with noise.

No files are needed: voices and accents come with the package `espeakng-loader`. The voices of validation and test are
not in training. A set of clips is a function of its `SpeechRecipe`; it is made once, in parallel, and kept in Hugging
Face's cache directory.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub import constants
from joblib import Parallel, delayed, effective_n_jobs
from scipy.signal import resample_poly
from tqdm import tqdm

from hf_vits.folders import temporary_folder
from hf_vits.recipe import SpeechRecipe

from .espeak import Espeak

KEYWORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPLITS = ("train", "validation", "test")

ACCENTS = ("en-us", "en", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029")
# espeak-ng's speakers, women and men in each split.
SPEAKERS = {
    "train": (
        *("f1", "f2", "f4", "Alicia", "Annie", "belinda", "steph", "anika"),
        *("m1", "m2", "m4", "m5", "m7", "Alex", "Gene", "Denis", "Lee", "Mike", "adam", "edward", "quincy", "rob"),
    ),
    "validation": ("f3", "Andrea", "m8", "Michael", "max"),
    "test": ("f5", "linda", "aunty", "m3", "m6", "Andy", "john", "robert"),
}

# Incremented whenever the functions below change the clips of a recipe.
_VERSION = 1
_FILES = ("samples.npy", "ends.npy", "utterances.json")
# Utterances that one `Espeak` speaks in sequence. Each depends on the earlier ones of its chunk.
_CHUNK = 100


@dataclass(frozen=True)
class Utterance:
    """A text and how it is spoken; voice, rate, pitch and pitch_range are described in `espeak.Espeak.speak`.

    Attributes:
        start: start of the speech, 0 (at the clip's beginning) to 1 (so late that it ends with the clip).
        level: peak of the speech, 0 to 1.
        noise: signal-to-noise ratio in dB.
        color: exponent of the noise's spectrum; power falls as frequency ** -color (0 white, 1 pink, 2 brown).
        seed: random seed of the noise.
    """

    text: str
    voice: str
    rate: int
    pitch: int
    pitch_range: int
    start: float
    level: float
    noise: float
    color: float
    seed: int


@dataclass(frozen=True)
class SpokenSplit:
    """The clips of a split, concatenated.

    Attributes:
        samples: samples of all clips, (samples,), int16.
        ends: index after the last sample of each clip, (clips,).
    """

    samples: np.ndarray
    ends: np.ndarray
    utterances: Sequence[Utterance]

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return the waveform of a clip, (samples,), int16."""
        start = self.ends[index - 1] if index else 0
        return self.samples[start : self.ends[index]]


def spoken(kind: str, recipe: SpeechRecipe) -> dict[str, SpokenSplit]:
    """Return the splits of `kind`, "keywords" or "digits", from the cache if they were made before.

    Raises ImportError without the package espeakng-loader, OSError where the cache cannot be written.
    """
    return {split: spoken_split(kind, split, recipe) for split in SPLITS}


def spoken_split(kind: str, split: str, recipe: SpeechRecipe) -> SpokenSplit:
    """Return one split, see `spoken`."""
    root = Path(recipe.cache or Path(constants.HF_HOME) / "hf_vits")
    directory = root / f"spoken_{kind}-{split}-{recipe_key(kind, split, recipe)}"
    if not directory.is_dir():
        _write(directory, _make(kind, split, recipe))
    samples, ends, utterances = (directory / name for name in _FILES)
    return SpokenSplit(
        samples=np.load(samples, mmap_mode="r"),
        ends=np.load(ends),
        utterances=[Utterance(**fields) for fields in json.loads(utterances.read_text())],
    )


def plan(kind: str, split: str, recipe: SpeechRecipe) -> list[Utterance]:
    """Return the utterances of a split, each a function of its index and the recipe; all keywords in turn."""
    return [_utterance(kind, split, number, recipe) for number in range(getattr(recipe, split))]


def _utterance(kind: str, split: str, number: int, recipe: SpeechRecipe) -> Utterance:
    random = np.random.default_rng((recipe.seed, SPLITS.index(split), number))
    if kind == "keywords":
        text = KEYWORDS[number % len(KEYWORDS)]
    else:
        text = " ".join(random.choice(DIGITS, random.integers(recipe.digits[0], recipe.digits[1] + 1)))
    return _spoken_at_random(text, split, random, recipe)


def utterance(text: str, split: str, number: int, recipe: SpeechRecipe) -> Utterance:
    """Return how a text is spoken in the clip of this number of a split: a function of these and the recipe."""
    return _spoken_at_random(text, split, np.random.default_rng((recipe.seed, SPLITS.index(split), number)), recipe)


def _spoken_at_random(text: str, split: str, random: np.random.Generator, recipe: SpeechRecipe) -> Utterance:
    return Utterance(
        text=text,
        voice=f"{random.choice(ACCENTS)}+{random.choice(SPEAKERS[split])}",
        rate=int(random.integers(recipe.rate[0], recipe.rate[1] + 1)),
        pitch=int(random.integers(30, 71)),
        pitch_range=int(random.integers(30, 71)),
        start=float(random.random()),
        level=float(random.uniform(0.2, 0.9)),
        noise=float(random.uniform(recipe.noise[0], recipe.noise[1])),
        color=float(random.uniform(0, 2)),
        seed=int(random.integers(2**32)),
    )


def say(voice: Espeak, utterance: Utterance, sampling_rate: int, seconds: float | None, margin: float) -> np.ndarray:
    """Return a clip of the utterance with silence around it and noise, (samples,), int16.

    Args:
        seconds: length of the clip in seconds; longer speech is cut. None: the length of the speech and `margin`.
        margin: silence before and after the speech together, in seconds, where `seconds` is None.
    """
    speech = _speech(voice, utterance, sampling_rate)
    length = len(speech) + round(margin * sampling_rate) if seconds is None else round(seconds * sampling_rate)
    speech = speech[:length]
    start = round(utterance.start * (length - len(speech)))
    clip = np.zeros(length)
    clip[start : start + len(speech)] = speech
    power = np.mean(speech**2) / 10 ** (utterance.noise / 10)
    clip += np.sqrt(power) * _noise(length, utterance.color, utterance.seed)
    return np.rint(32767 * np.clip(clip, -1, 1)).astype(np.int16)


def _speech(voice: Espeak, utterance: Utterance, sampling_rate: int) -> np.ndarray:
    """Return the speech from its first to its last audible sample, scaled to the utterance's level."""
    speech = voice.speak(
        utterance.text, utterance.voice, utterance.rate, utterance.pitch, utterance.pitch_range
    ).astype(np.float64)
    # A ratio of small numbers needs only a short filter; its error, 1e-4, is inaudible.
    ratio = Fraction(sampling_rate, voice.sampling_rate).limit_denominator(500)
    speech = resample_poly(speech, ratio.numerator, ratio.denominator)
    heard = np.flatnonzero(np.abs(speech) > 0.01 * np.abs(speech).max())
    speech = speech[heard[0] : heard[-1] + 1]
    return speech * (utterance.level / np.abs(speech).max())


def _noise(length: int, color: float, seed: int) -> np.ndarray:
    """Return Gaussian noise of power 1, (length,)."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(length))
    spectrum *= np.maximum(np.arange(len(spectrum)), 1) ** (-color / 2)
    noise = np.fft.irfft(spectrum, length)
    return noise / np.sqrt(np.mean(noise**2))


def recipe_key(kind: str, split: str, recipe: SpeechRecipe, **fields: Any) -> str:
    """Return a hash of everything that determines a split, or "all" of them, with further fields."""
    sizes = {name: getattr(recipe, name) for name in SPLITS} if split == "all" else {"clips": getattr(recipe, split)}
    fields |= {name: value for name, value in asdict(recipe).items() if name not in ("cache", *SPLITS)}
    fields = {"version": _VERSION, "espeak": metadata.version("espeakng-loader")} | fields | sizes
    return hashlib.sha256(json.dumps([kind, split, fields], sort_keys=True).encode()).hexdigest()[:16]


def _make(kind: str, split: str, recipe: SpeechRecipe) -> SpokenSplit:
    utterances = plan(kind, split, recipe)
    seconds = recipe.seconds if kind == "keywords" else None
    chunks = [utterances[first : first + _CHUNK] for first in range(0, len(utterances), _CHUNK)]
    jobs = min(effective_n_jobs(-1), len(chunks))
    work = (delayed(_say_all)(chunk, recipe.sampling_rate, seconds, recipe.margin) for chunk in chunks)
    clips: list[np.ndarray] = []
    spoken: Any = Parallel(n_jobs=jobs, return_as="generator")(work)
    with tqdm(total=len(utterances), desc=f"Speaking {kind} ({split})", unit="clip") as bar:
        for made in spoken:
            clips += made
            bar.update(len(made))
    return SpokenSplit(np.concatenate(clips), np.cumsum([len(clip) for clip in clips]), utterances)


def _say_all(utterances: Sequence[Utterance], *form) -> list[np.ndarray]:
    with Espeak() as voice:
        return [say(voice, utterance, *form) for utterance in utterances]


def _write(directory: Path, split: SpokenSplit) -> None:
    """Write a split completely or not at all; the files of a process that finished first are kept."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(directory.parent, ".speaking-") as partial:
        samples, ends, utterances = (partial / name for name in _FILES)
        np.save(samples, split.samples)
        np.save(ends, split.ends)
        utterances.write_text(json.dumps([asdict(utterance) for utterance in split.utterances]))
        try:
            partial.rename(directory)
        except OSError:
            if not directory.is_dir():
                raise
