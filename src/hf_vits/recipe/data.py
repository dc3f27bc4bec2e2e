"""Sections of a recipe: the data to train and test on."""

from dataclasses import dataclass, field
from typing import Literal

from huggingface_hub.dataclasses import strict

from .fields import check_range, fraction, not_negative, positive, seed

# Keys of data.columns that may be lists of columns.
_SEVERAL = ("label", "labels", "targets")


@strict
@dataclass(kw_only=True)
class SpeechRecipe:
    """Speech made with espeak-ng, for the data sources spoken_keywords, spoken_digits and speaking_digits.

    train: number of training recordings. The voices of each split speak in no other split.
    validation: number of validation recordings.
    test: number of test recordings.
    seconds: length of a recording of a keyword or of a clip, in seconds. Recordings of digits are as long as their
        speech and `margin`.
    margin: silence before and after the digits of a recording together, in seconds.
    digits: fewest and most digits of a recording.
    rate: slowest and fastest speech, in words per minute, 80 to 450.
    noise: lowest and highest signal-to-noise ratio, in dB.
    sampling_rate: sampling rate of the recordings, in Hz; the model's own avoids resampling.
    seed: random seed of texts, voices, speeds and noise.
    cache: directory that keeps the recordings. None: `hf_vits` in Hugging Face's cache directory.
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
    seed: int = seed(default=0)
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
class DomainRecipe:
    """One domain of a stream of domains: what differs from the rest of the data section.

    source: name of the data source. None: the section's.
    path: directory, table or dataset of the domain. None: the section's.
    config: configuration of the domain's dataset. None: the section's.
    splits: names of the domain's splits. Empty: the section's.
    rotation: degrees by which its images are turned counter-clockwise, as in Rotated MNIST.
    """

    source: str | None = None
    path: str | None = None
    config: str | None = None
    splits: dict[str, str] = field(default_factory=dict)
    rotation: float = 0.0


@strict
@dataclass(kw_only=True)
class DataRecipe:
    """Data to train, validate and test on.

    source: name of the data source. Each module of `hf_vits/data/images/sources` is one for images, those of
        `data/videos/sources`, `data/audio/sources` and `data/audiovisual/sources` for videos, recordings and videos
        with sound, of `data/objects/sources` and `data/masks/sources` for images with objects and with masks; its
        docstring describes the data. A setting below that a source does not read is an error.
    path: directory of the files, the table of files, or the name of a dataset on the Hub, as the source needs it.
        None: for sources that need no files.
    config: configuration name of a dataset on the Hub, or of scenes. None: its only or default one.
    data_dir: directory within a dataset, for the source datasets. None: the whole dataset.
    data_files: files for the source datasets: a name, a pattern such as "shards/*.parquet", a list of them, or
        {split: one of these}. They are relative to data.path if it is a directory, and without data.path their ending
        determines the format. Empty: all files.
    splits: names of the source's splits to use as `train`, `validation` and `test`, such as {train: train, test: dev}.
        Empty: the splits that have these names or usual other ones, such as val.
    validation_fraction: fraction of the training inputs, of every class alike, that is held out for validation where
        the source has no validation split. With 0 the test split is used for validation.
    test_fraction: fraction of the training inputs, of every class alike, that is held out for testing where the source
        has no test split. With 0 the validation split is used for testing.
    sampler: order of the training inputs: `shuffled`, each once in an epoch, or `balanced`, drawn at random so that
        every class is as frequent as every other, for imbalanced data.
    train_inputs: number of training inputs to train on, of every class alike, drawn after validation and test inputs
        are held out, to see what a model learns from few. None: all.
    split_seed: random seed of the held-out fractions and of the draw of train_inputs.
    num_classes: number of classes that the data must have; another number is an error. None: any number.
    classes: names of the classes of masks, in the order of their numbers: a list, or a file with a name per line.
        None: the names that the data have, or else their numbers.
    reduce_labels: whether masks number the classes from 1 on and 0 is where nothing is known, as in ADE20K.
    skip_unreadable: leave out files that cannot be decoded, in place of refusing to start.
    columns: names of the columns of a table or dataset, by what they contain: `image`, `video` or `audio` (in tables:
        file names relative to the table's directory), `label`, `labels`, `targets`, `objects`, `text`, `split`. Keys
        that are left out have usual names. A list as `label`, such as [noun, verb], gives a ViViT one classifier head
        for each of these columns. `labels` is for inputs of which several labels are true: a column of lists, or
        columns of one label each, as a list of names or patterns such as "has_*", with 1, 0 and, for unknown labels,
        empty cells. `targets` are numbers to predict (regression): a column of numbers or of lists of numbers, or
        several columns of numbers, as a list of names or patterns; they go with objective.loss: mse.
    box_format: what the four numbers of a box in a dataset with objects are, in pixels: `xywh`, left, top, width and
        height, as in COCO, or `xyxy`, left, top, right and bottom.
    captions: number of captions of a video with sound that are its candidates. Of more captions as many are drawn;
        fewer are filled up with empty texts, as in VATT's original.
    streaming: read the training inputs of source datasets as a stream, without downloading them first. Validation and
        test inputs are loaded as usual.
    shuffle_buffer: number of inputs of a stream, which come in the order of their shards, among which the next one is
        drawn. They are kept in memory unless they are in local tar archives.
    epoch_inputs: number of inputs of a stream that count as an epoch. None: there are no epochs, and all durations
        must be in steps.
    speech: speech to make, for the sources spoken_keywords, spoken_digits and speaking_digits.
    domains: name of each domain of a stream of domains, in their order, with what differs in it. All have the same
        classes. For continual-image-classification; empty: a stream of classes.
    """

    source: str
    path: str | None = None
    config: str | None = None
    data_dir: str | None = None
    data_files: str | list[str] | dict[str, str | list[str]] = field(default_factory=list)
    splits: dict[str, str] = field(default_factory=dict)
    validation_fraction: float = fraction(default=0.1)
    test_fraction: float = fraction(default=0.0)
    sampler: Literal["shuffled", "balanced"] = "shuffled"
    train_inputs: int | None = positive(default=None)
    split_seed: int = seed(default=0)
    num_classes: int | None = positive(default=None)
    classes: str | list[str] | None = None
    reduce_labels: bool = False
    skip_unreadable: bool = False
    columns: dict[str, str | list[str]] = field(default_factory=dict)
    box_format: Literal["xywh", "xyxy"] = "xywh"
    captions: int = positive(default=1)
    streaming: bool = False
    shuffle_buffer: int = positive(default=1000)
    epoch_inputs: int | None = positive(default=None)
    speech: SpeechRecipe = field(default_factory=SpeechRecipe)
    domains: dict[str, DomainRecipe] = field(default_factory=dict)

    def validate_domains(self):
        if len(self.domains) == 1:
            raise ValueError("data.domains: a stream needs two domains or more, got one")

    def validate_columns(self):
        keys = ("image", "video", "audio", "label", "labels", "targets", "objects", "text", "split")
        if unknown := set(self.columns) - set(keys):
            raise ValueError(f"data.columns has the keys {', '.join(keys)}, not {', '.join(sorted(unknown))}")
        for key, names in self.columns.items():
            if isinstance(names, list) and key not in _SEVERAL:
                raise ValueError(
                    f"data.columns.{key} is one column, got {names}; only {', '.join(_SEVERAL)} can be several"
                )
            fewest = 2 if key == "label" else 1
            if isinstance(names, list) and (len(set(names)) != len(names) or len(names) < fewest):
                raise ValueError(f"data.columns.{key} is one column, or a list of {fewest} or more, got {names}")
        if len(self.columns.keys() & set(_SEVERAL)) > 1:
            raise ValueError(
                "data.columns has label for one class of each input, labels for several, or targets for numbers; only "
                "one of these"
            )
        if "targets" in self.columns and self.num_classes is not None:
            raise ValueError("data.num_classes is for classes, but data.columns.targets names numbers; leave it out")

    def validate_splits(self):
        if unknown := set(self.splits) - {"train", "validation", "test"}:
            raise ValueError(f"data.splits maps train, validation and test to the source's splits, not {unknown}")

    def validate_fractions(self):
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("data.validation_fraction and data.test_fraction leave nothing to train on")
