"""The sections of a recipe that say which data it trains and tests on."""

from dataclasses import dataclass, field

from huggingface_hub.dataclasses import strict

from .fields import check_range, not_negative, positive, share


@strict
@dataclass(kw_only=True)
class SpeechRecipe:
    """Speech made with espeak-ng, for data.source spoken_keywords and spoken_digits.

    train, validation, test: how many clips; the voices of each speak in no other.
    seconds: length of a keyword's clip. Digits have clips as long as their speech and `margin`.
    margin: seconds of silence around digits, in all.
    digits: fewest and most digits of a clip.
    rate: slowest and fastest speech, in words per minute.
    noise: lowest and highest signal to noise ratio, in dB.
    sampling_rate: of the clips; best that of the model.
    seed: another seed makes other clips.
    cache: directory that keeps the clips; none: `hf_vits` in Hugging Face's cache directory.
    """

    train: int = positive(default=4000)
    validation: int = positive(default=400)
    test: int = positive(default=1000)
    seconds: float = positive(default=1.0)
    margin: float = not_negative(default=0.3)
    digits: list[int] = field(default_factory=lambda: [3, 7])
    rate: list[int] = field(default_factory=lambda: [130, 210])
    noise: list[float] = field(default_factory=lambda: [10.0, 40.0])
    sampling_rate: int = positive(default=16_000)
    seed: int = not_negative(default=0)
    cache: str | None = None

    def validate_ranges(self):
        for name in ("digits", "rate", "noise"):
            check_range(f"data.speech.{name}", getattr(self, name))
        if self.digits[0] < 1 or self.rate[0] < 80 or self.rate[1] > 450:
            raise ValueError(
                "data.speech: a clip has one digit or more, and espeak-ng speaks 80 to 450 words a minute"
            )


@strict
@dataclass(kw_only=True)
class DataRecipe:
    """Images and labels.

    source: `digits` (1,797 scans inside scikit-learn), `fashion_mnist` (idx files), `folder` (a directory per class,
        below split directories if there are any), `datasets` (whatever `datasets.load_dataset` loads), `csv` and
        `jsonl` (a table of video files with labels or of audio files with labels or texts, or a directory of such
        tables, one per split), `moving_digits` (1,797 videos made here; data.columns.label is direction or digit),
        `speech_commands` (the unpacked archive, V2; num_classes: 35, 20 or 12), `spoken_keywords` and `spoken_digits`
        (made with espeak-ng, see `speech`).
    path: directory of the files, the table, or name of the dataset; of moving_digits where they are kept, by default
        in Hugging Face's cache directory.
    config: configuration name of a `datasets` dataset.
    splits: which of the source's splits are train, validation and test; none: those that are called so.
    validation_fraction: share of the training images held out, class by class, where the source has no validation
        split; with 0 the test split validates.
    test_fraction: likewise for the test split; with 0 the validation split tests.
    split_seed: seed of these held-out shares.
    num_classes: how many classes there must be; another number is an error.
    skip_unreadable: leave out image files that cannot be decoded, instead of refusing to start.
    columns: which columns of a table, or of a `datasets` dataset of recordings, hold `audio` or `video` (file names,
        relative to the table's directory), `label` or `text`, and `split`; those not named here have usual names.
        Several columns as `label`, [noun, verb], are for ViViT: its classifier gets a head for each.
    speech: what espeak-ng says.
    """

    source: str
    path: str | None = None
    config: str | None = None
    splits: dict[str, str] = field(default_factory=dict)
    validation_fraction: float = share(default=0.1)
    test_fraction: float = share(default=0.0)
    split_seed: int = 0
    num_classes: int | None = positive(default=None)
    skip_unreadable: bool = False
    columns: dict[str, str | list[str]] = field(default_factory=dict)
    speech: SpeechRecipe = field(default_factory=SpeechRecipe)

    def validate_columns(self):
        keys = ("image", "video", "audio", "label", "text", "split")
        if unknown := set(self.columns) - set(keys):
            raise ValueError(f"data.columns has the keys {', '.join(keys)}, not {', '.join(sorted(unknown))}")
        for key, names in self.columns.items():
            if isinstance(names, list) and key != "label":
                raise ValueError(f"data.columns.{key} is one column, got {names}; only label can be several")
            if isinstance(names, list) and (len(set(names)) != len(names) or len(names) < 2):
                raise ValueError(f"data.columns.label is one column, or a list of two or more, got {names}")

    def validate_splits(self):
        if unknown := set(self.splits) - {"train", "validation", "test"}:
            raise ValueError(f"data.splits maps train, validation and test to the source's splits, not {unknown}")

    def validate_fractions(self):
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("data.validation_fraction and data.test_fraction leave nothing to train on")
