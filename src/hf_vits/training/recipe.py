"""What a training run is: one YAML file, read into dataclasses that check every key and value."""

import dataclasses
import difflib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError

from .pretraining_recipe import MaskRecipe, MomentumTeacherRecipe, NeighboursRecipe, ViewsRecipe
from .recipe_fields import check_range, duration, not_negative, positive, share, steps_of


@strict
@dataclass(kw_only=True)
class InitializationRecipe:
    """The image model, or the one of other clips, that a model of clips starts from.

    pretrained: its directory or Hub repository; a ViT or DeiT may be transformers' own.
    inflation, positions, temporal_attention: see `initialize_from` of the model's class, which may not have them all;
        none: as the original does it.
    """

    pretrained: str
    inflation: Literal["central_frame", "average", "repeat", "rank_pooling"] | None = None
    positions: Literal["tile", "resize", "resize_tile"] | None = None
    temporal_attention: Literal["copy", "zero"] | None = None


@strict
@dataclass(kw_only=True)
class ProbeRecipe:
    """A linear classifier on the features of a frozen encoder, as MAE and DINO judge theirs.

    num_layers: how many of the last layers give features: class tokens, or means where there is none; with 1 it is
        what the encoder pools.
    patch_mean: whether the mean of the last layer's patches is a feature too.
    batch_norm: whether a batch norm without parameters stands before the classifier.
    """

    num_layers: int = positive(default=1)
    patch_mean: bool = False
    batch_norm: bool = False


@strict
@dataclass(kw_only=True)
class ModelRecipe:
    """Where the model comes from: `system` and `variant` (from scratch), these and `checkpoint`, or `pretrained`.

    system, variant: a published variant by name (`hf-vits list` shows them).
    checkpoint: an original checkpoint file of that variant, converted as `hf-vits convert` does.
    pretrained: directory or Hub repository of any transformers image classifier.
    initialize_from: an image model whose weights a model of clips (ViViT, MViT) starts from, in place of random ones.
    probe: train a linear classifier on the model's encoder, which stays as it is; the model may be of any kind, such
        as one that was pretrained without labels.
    config: configuration fields that differ from the variant's or the pretrained model's.
    processor: image processor fields that differ, such as image_mean.
    """

    system: str | None = None
    variant: str | None = None
    checkpoint: str | None = None
    pretrained: str | None = None
    initialize_from: InitializationRecipe | None = None
    probe: ProbeRecipe | None = None
    config: dict[str, Any] = field(default_factory=dict)
    processor: dict[str, Any] = field(default_factory=dict)

    def validate_origin(self):
        if self.pretrained is None and (self.system is None or self.variant is None):
            raise ValueError("name either `system` and `variant`, or `pretrained`")
        if self.pretrained is not None and (self.system or self.variant or self.checkpoint):
            raise ValueError("`pretrained` stands alone: leave out `system`, `variant` and `checkpoint`")
        if self.initialize_from is not None and (self.pretrained or self.checkpoint):
            raise ValueError("`initialize_from` is for new models: leave out `pretrained` and `checkpoint`")


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

    source: Literal[
        "digits",
        "fashion_mnist",
        "folder",
        "datasets",
        "csv",
        "jsonl",
        "moving_digits",
        "speech_commands",
        "spoken_keywords",
        "spoken_digits",
    ]
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

    def validate_path(self):
        if self.path is None and self.source not in ("digits", "moving_digits", "spoken_keywords", "spoken_digits"):
            raise ValueError(f"data.source: {self.source} needs data.path")

    def validate_columns(self):
        if unknown := set(self.columns) - {"audio", "video", "label", "text", "split"}:
            raise ValueError(f"data.columns names the columns of audio, video, label, text and split, not {unknown}")
        for key, names in self.columns.items():
            if isinstance(names, list):
                self._check_several(key, names)

    def _check_several(self, key: str, names: list[str]):
        if key != "label" or self.source not in ("csv", "jsonl", "moving_digits"):
            raise ValueError(
                f"data.columns.{key} is one column; only the label of data.source csv, jsonl and moving_digits can be "
                f"several, got {names} of data.source {self.source}"
            )
        if len(set(names)) != len(names) or len(names) < 2:
            raise ValueError(f"data.columns.label is one column, or a list of two and more, got {names}")

    def validate_splits(self):
        if unknown := set(self.splits) - {"train", "validation", "test"}:
            raise ValueError(f"data.splits maps train, validation and test to the source's splits, not {unknown}")

    def validate_fractions(self):
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("data.validation_fraction and data.test_fraction leave nothing to train on")


@strict
@dataclass(kw_only=True)
class RandAugmentRecipe:
    """RandAugment (arXiv 1909.13719): `ops` operations at `magnitude` of 10, varied by `std` from image to image.

    policy: whose operations. `timm` bends, moves and recolours, as in timm and SlowFast; `scenic` is for clips: it
        recolours them and cuts squares out, as for ViViT, with magnitudes up to 20 and without std.
    """

    ops: int = positive(default=2)
    magnitude: float = 9.0
    std: float = not_negative(default=0.0)
    policy: Literal["timm", "scenic"] = "timm"

    def validate_magnitude(self):
        highest = {"timm": 10, "scenic": 20}[self.policy]
        if not 0 <= self.magnitude <= highest:
            raise ValueError(
                f"randaugment.magnitude of policy {self.policy} must lie between 0 and {highest}, got {self.magnitude}"
            )
        if self.policy == "scenic" and self.std:
            raise ValueError(f"randaugment.std goes with policy timm, got {self.std} with policy scenic")


@strict
@dataclass(kw_only=True)
class AffineRecipe:
    """Random rotation up to `degrees`, shift up to `translate` of the size, scale up to 1 -/+ `scale`, shear."""

    degrees: float = 0.0
    translate: float = share(default=0.0)
    scale: float = share(default=0.0)
    shear: float = 0.0


@strict
@dataclass(kw_only=True)
class AugmentationRecipe:
    """What happens to training images; evaluation images only pass the image processor.

    crop_scale: share of the area that a random crop, then resized, covers; none: the whole image resized.
    crop_ratio: aspect ratios of that crop.
    crop_clipped: that crop is drawn once and cut to what the image has, not drawn anew until it fits (MAE's probe).
    crop_padding: resize, pad by so many reflected pixels, crop at random; instead of crop_scale.
    short_side: fewest and most pixels that the shorter side is resized to, then crop at random; instead of crop_scale.
    interpolation: of resizing; `random` draws bilinear or bicubic, none is the image processor's.
    flip: probability of a horizontal flip.
    affine, randaugment: see there.
    three_augment: one of grey, solarize, Gaussian blur (DeiT III, arXiv 2204.07118).
    color_jitter: strength of brightness, contrast and saturation changes.
    grey: probability of losing all colour.
    erasing: probability of erasing a rectangle with noise (arXiv 1708.04896).
    mixup, cutmix: alpha of each (arXiv 1710.09412, 1905.04899); 0 turns it off.
    mix_probability: share of batches that are mixed.
    mix_switch: share of mixed batches, if both are on, that CutMix mixes.
    mix_until: when mixing ends; none: never.
    repeats: how many times in a row an epoch takes the same image, differently augmented (arXiv 1902.05509); the
        epoch keeps its length, so it sees fewer images.
    """

    crop_scale: list[float] | None = None
    crop_ratio: list[float] = field(default_factory=lambda: [3 / 4, 4 / 3])
    crop_clipped: bool = False
    crop_padding: int | None = None
    short_side: list[int] | None = None
    interpolation: Literal["bilinear", "bicubic", "random"] | None = None
    flip: float = share(default=0.0)
    affine: AffineRecipe | None = None
    randaugment: RandAugmentRecipe | None = None
    three_augment: bool = False
    color_jitter: float = not_negative(default=0.0)
    grey: float = share(default=0.0)
    erasing: float = share(default=0.0)
    mixup: float = not_negative(default=0.0)
    cutmix: float = not_negative(default=0.0)
    mix_probability: float = share(default=1.0)
    mix_switch: float = share(default=0.5)
    mix_until: str | None = duration(default=None)
    repeats: int = positive(default=1)

    def validate_crop(self):
        crops = [name for name in ("crop_scale", "crop_padding", "short_side") if getattr(self, name) is not None]
        if len(crops) > 1:
            raise ValueError(f"augmentation.{' and augmentation.'.join(crops)} exclude each other")
        if self.crop_clipped and self.crop_scale is None:
            raise ValueError("augmentation.crop_clipped is about augmentation.crop_scale, which is missing")
        if self.short_side is not None:
            check_range("augmentation.short_side", self.short_side)


@strict
@dataclass(kw_only=True)
class VideoRecipe:
    """How many views of a video decide its class once the model is trained.

    Averaged are their probabilities, as in SlowFast, or where the processor's convention is "scenic" their logits.

    During training validation looks at one view: the central clip, its frames cropped at their centre.

    clips: spread evenly over the video.
    crops: of each clip's frames: 1, or 3 along the longer side.
    """

    clips: int = positive(default=1)
    crops: Literal[1, 3] = 1


@strict
@dataclass(kw_only=True)
class SpecAugmentRecipe:
    """SpecAugment (arXiv 1904.08779): warped time, and bands of frequency and time without content.

    time_warp: most frames that a moment moves by; 0: none does.
    frequency_masks, frequency_width: how many bands, and how wide they are at most, in bins.
    time_masks, time_width: how many stretches, and how long they are at most, in frames.
    time_share: how long they are at most as a share of the clip's frames (arXiv 1912.05533); instead of time_width.
    """

    time_warp: int = not_negative(default=0)
    frequency_masks: int = not_negative(default=2)
    frequency_width: int = not_negative(default=27)
    time_masks: int = not_negative(default=2)
    time_width: int | None = not_negative(default=None)
    time_share: float | None = share(default=None)

    def validate_time(self):
        if self.time_masks and (self.time_width is None) == (self.time_share is None):
            raise ValueError("audio.spec_augment: time masks need either time_width or time_share")


@strict
@dataclass(kw_only=True)
class AudioRecipe:
    """What happens to training recordings, in this order; those of evaluation only pass the processor.

    fit_normalization: normalise spectrograms, in evaluation too, by the mean and standard deviation of each bin of the
        training recordings.
    speed: factors of which each recording draws one; 1.1 is faster and higher.
    shift: most seconds that a recording moves to either side; silence fills the gap.
    polarity: probability of turning the waveform upside down.
    reverb: probability of the sound of a room; its reverberation falls by 60 dB in reverb_seconds, drawn between two.
    gain: probability of another level, by gain_decibels, drawn between two.
    noise: probability of white noise, at noise_decibels of signal over noise, drawn between two.
    spec_augment: of spectrograms, see there.
    mixup: alpha of mixing the batch's recordings (arXiv 1710.09412), as the model gets them, and their classes.
    mix_probability: share of batches that are mixed.
    """

    fit_normalization: bool = False
    speed: list[float] = field(default_factory=list)
    shift: float = not_negative(default=0.0)
    polarity: float = share(default=0.0)
    reverb: float = share(default=0.0)
    reverb_seconds: list[float] = field(default_factory=lambda: [0.05, 0.5])
    gain: float = share(default=0.0)
    gain_decibels: list[float] = field(default_factory=lambda: [-20.0, -1.0])
    noise: float = share(default=0.0)
    noise_decibels: list[float] = field(default_factory=lambda: [5.0, 30.0])
    spec_augment: SpecAugmentRecipe | None = None
    mixup: float = not_negative(default=0.0)
    mix_probability: float = share(default=1.0)

    def validate_ranges(self):
        for name in ("reverb_seconds", "gain_decibels", "noise_decibels"):
            check_range(f"audio.{name}", getattr(self, name))
        if any(not 0.1 <= factor <= 10 for factor in self.speed):
            raise ValueError(f"audio.speed are factors such as 0.9 and 1.1, got {self.speed}")


@strict
@dataclass(kw_only=True)
class ObjectiveRecipe:
    """The loss.

    loss: softmax cross-entropy; `binary` per class, mean over elements, targets made 0 or 1 (DeiT III); `sigmoid`
        per class, summed over classes, soft targets (big_vision).
    label_smoothing: of the softmax cross-entropy.
    cosub: co-train two submodels on every batch (arXiv 2212.04884), by binary cross-entropies, mean over elements;
        the targets are soft with loss: sigmoid, 0 or 1 with loss: binary.
    distillation: how the `teacher` is followed (arXiv 2012.12877).
    alpha: weight of the distillation term.
    temperature: of soft distillation.
    """

    loss: Literal["cross_entropy", "binary", "sigmoid"] = "cross_entropy"
    label_smoothing: float = share(default=0.0)
    cosub: bool = False
    distillation: Literal["none", "soft", "hard"] = "none"
    alpha: float = share(default=0.5)
    temperature: float = positive(default=1.0)

    def validate_smoothing(self):
        if self.label_smoothing and self.loss != "cross_entropy":
            raise ValueError(f"label smoothing goes with loss: cross_entropy, not {self.loss}")

    def validate_cosub(self):
        if self.cosub and (self.distillation != "none" or self.loss == "cross_entropy"):
            raise ValueError("objective.cosub goes with loss: binary or sigmoid and without distillation")


@strict
@dataclass(kw_only=True)
class TeacherRecipe:
    """The classifier to distil from: directory or Hub repository, and where it is pinned, its revision."""

    pretrained: str
    revision: str | None = None


@strict
@dataclass(kw_only=True)
class TokenizerRecipe:
    """The tokens of speech recognition, learned from the training texts; for a model that comes without any.

    kind: a token per character, or subwords by byte-pair encoding (bpe).
    vocab_size: of subwords.
    lowercase: whether texts are lowercased.
    """

    kind: Literal["characters", "bpe"] = "characters"
    vocab_size: int | None = positive(default=None)
    lowercase: bool = False

    def validate_size(self):
        if (self.kind == "bpe") != (self.vocab_size is not None):
            raise ValueError("tokenizer.vocab_size goes with tokenizer.kind: bpe, and has no default")


@strict
@dataclass(kw_only=True)
class OptimizerRecipe:
    """The optimizer and which parameters it treats differently.

    Biases, norms, gains and all else of at most one dimension never decay.

    learning_rate: at its peak, for the global batch as it is: nothing scales it.
    weight_decay: relative to the learning rate, as in AdamW.
    head_weight_decay: of the classifier, if it differs (Scaling ViT, arXiv 2106.04560).
    final_weight_decay: where the weight decay gets to, along half a cosine (DINO, arXiv 2104.14294); none: it stays.
    no_decay: regular expressions of further parameter names that do not decay.
    layer_decay: factor of the learning rate from each layer to the one below it (arXiv 2003.10555).
    options: further keyword arguments of the optimizer, such as betas.
    """

    name: Literal["adamw", "sgd", "lamb", "adafactor", "lars"] = "adamw"
    learning_rate: float = positive()
    weight_decay: float = not_negative(default=0.0)
    head_weight_decay: float | None = not_negative(default=None)
    final_weight_decay: float | None = not_negative(default=None)
    no_decay: list[str] = field(default_factory=lambda: ["position_embedding", "prefix_tokens", "cls_token", "probe"])
    layer_decay: float = positive(default=1.0)
    options: dict[str, Any] = field(default_factory=dict)


@strict
@dataclass(kw_only=True)
class ScheduleRecipe:
    """The learning rate over time, step by step.

    kind: after the warm-up, `cosine` or `linear` down to min_learning_rate; `closed_cosine` is a cosine whose warm-up
        includes both of its ends (DINO); `rsqrt` falls as 1 / sqrt(1 + steps / timescale); `constant` stays.
    warmup: linear from warmup_learning_rate to the optimizer's learning rate.
    cooldown: last part of the run: at min_learning_rate after a cosine or linear decay, linearly down to it otherwise.
    """

    kind: Literal["cosine", "closed_cosine", "linear", "rsqrt", "constant"] = "cosine"
    warmup: str = duration(default="0 steps")
    warmup_learning_rate: float = not_negative(default=0.0)
    min_learning_rate: float = not_negative(default=0.0)
    cooldown: str = duration(default="0 steps")
    timescale: str = duration(default="10000 steps")


@strict
@dataclass(kw_only=True)
class TrainRecipe:
    """The run.

    length: for how long to train.
    batch_size: images per optimizer step, over all processes and accumulated parts.
    accumulation: in how many parts a process takes its share of a batch.
    seed: of initialisation, order, augmentation and dropout.
    precision: `auto` is bfloat16 autocast on devices that have it, else float32.
    max_grad_norm: gradients are clipped to this norm; none: not at all.
    clip_each: the gradient of each parameter is clipped by itself, not all of them as one.
    ema_decay: keep an exponential moving average of the weights, in the checkpoints.
    use_ema: evaluate and save that average as the result.
    evaluate_every, save_every, log_every: when to validate, to write a checkpoint to resume from, to log.
    evaluation_batch_size: images per evaluation step and process.
    workers: processes per process that load images.
    activation_checkpointing: recompute activations in the backward pass, to save memory.
    deterministic: use deterministic kernels on accelerators too, which is slower. On CPU every run is.
    """

    length: str = duration()
    batch_size: int = positive()
    accumulation: int = positive(default=1)
    seed: int = not_negative(default=0)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    max_grad_norm: float | None = positive(default=None)
    clip_each: bool = False
    ema_decay: float | None = share(default=None)
    use_ema: bool = False
    evaluate_every: str | None = duration(default="1 epoch")
    save_every: str | None = duration(default="1 epoch")
    log_every: str = duration(default="50 steps")
    evaluation_batch_size: int = positive(default=128)
    workers: int = not_negative(default=0)
    activation_checkpointing: bool = False
    deterministic: bool = False

    def validate_length(self):
        if steps_of(self.length, 1_000_000) == 0:
            raise ValueError(f"train.length {self.length} is no training at all")

    def validate_clipping(self):
        if self.clip_each and self.max_grad_norm is None:
            raise ValueError("train.clip_each needs train.max_grad_norm")

    def validate_ema(self):
        if self.use_ema and self.ema_decay is None:
            raise ValueError("train.use_ema needs train.ema_decay")


@strict
@dataclass(kw_only=True)
class OutputRecipe:
    """Where results go.

    directory: model, processor, card, figures, history and checkpoints.
    keep_checkpoints: how many to keep; the last one is enough to resume.
    push_to_hub: repository to push the finished model to.
    private: whether that repository is made private.
    """

    directory: str
    keep_checkpoints: int = positive(default=1)
    push_to_hub: str | None = None
    private: bool | None = None


@strict
@dataclass(kw_only=True)
class Recipe:
    """A training run; each section is described by its class.

    task: what the model does, by the name of transformers' pipeline for it, or `pretraining` without labels.
    """

    model: ModelRecipe
    data: DataRecipe
    optimizer: OptimizerRecipe
    train: TrainRecipe
    output: OutputRecipe
    task: Literal[
        "image-classification",
        "video-classification",
        "audio-classification",
        "automatic-speech-recognition",
        "pretraining",
    ] = "image-classification"
    augmentation: AugmentationRecipe = field(default_factory=AugmentationRecipe)
    audio: AudioRecipe = field(default_factory=AudioRecipe)
    video: VideoRecipe = field(default_factory=VideoRecipe)
    objective: ObjectiveRecipe = field(default_factory=ObjectiveRecipe)
    teacher: TeacherRecipe | None = None
    tokenizer: TokenizerRecipe | None = None
    views: ViewsRecipe | None = None
    masks: MaskRecipe | None = None
    momentum_teacher: MomentumTeacherRecipe | None = None
    neighbours: NeighboursRecipe | None = None
    schedule: ScheduleRecipe = field(default_factory=ScheduleRecipe)

    def validate_randaugment(self):
        randaugment = self.augmentation.randaugment
        if randaugment and randaugment.policy == "scenic" and self.task != "video-classification":
            raise ValueError(f"augmentation.randaugment.policy: scenic is for clips, task is {self.task}")

    def validate_teacher(self):
        if (self.teacher is None) != (self.objective.distillation == "none"):
            raise ValueError(
                f"objective.distillation is {self.objective.distillation}, and there is "
                f"{'no' if self.teacher is None else 'a'} teacher: distillation needs both"
            )

    def to_dict(self) -> dict[str, Any]:
        """Every key with its value, defaults included, as `load_recipe` reads it."""
        return dataclasses.asdict(self)


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as {"section.key": value}."""
    pairs = {}
    for key, value in values.items():
        if isinstance(value, dict):
            pairs |= flat(value, f"{prefix}{key}.")
        else:
            pairs[f"{prefix}{key}"] = value
    return pairs


def load_recipe(recipe: str | Path | dict[str, Any], overrides: typing.Iterable[str] = ()) -> Recipe:
    """Read a recipe from a YAML file or a dict and apply overrides such as `"train.batch_size=64"`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not YAML, a key that does not exist (named, with the nearest ones that do), a value not allowed.
    """
    if isinstance(recipe, dict):
        values, name = recipe, "recipe"
    else:
        name = str(recipe)
        values = _read_yaml(Path(recipe).read_text(encoding="utf-8"), name)
    for override in overrides:
        values = _override(values, override)
    return _build(Recipe, values, name)


def _read_yaml(text: str, name: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{name} is not valid YAML: {error}") from error


def _override(values: dict[str, Any], override: str) -> dict[str, Any]:
    """A copy of nested `values` with one `section.key=value` set."""
    path, separator, text = override.partition("=")
    if not separator or not path:
        raise ValueError(f"an override reads section.key=value, got {override!r}")
    *sections, key = path.strip().split(".")
    values = target = dict(values)
    for section in sections:
        inner = target.get(section)
        if inner is not None and not isinstance(inner, dict):
            raise ValueError(f"override {override!r}: {section} is a value, it has no keys")
        target[section] = target = dict(inner or {})
    target[key] = _read_yaml(text, override)
    return values


def _build(cls: type, values: Any, where: str) -> Any:
    """An instance of dataclass `cls` from a mapping; `where` names its place in error messages."""
    if not isinstance(values, dict):
        raise ValueError(f"{where}: expected keys and values, got {values!r}")
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=2)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise ValueError(f"{where}: there is no key {key!r}{hint} The keys are: {', '.join(fields)}.")
    missing = [
        name
        for name, f in fields.items()
        if name not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"{where}: missing {', '.join(missing)}")
    hints = typing.get_type_hints(cls)
    arguments = {key: _value(hints[key], value, f"{where}: {key}") for key, value in values.items()}
    try:
        return cls(**arguments)
    except StrictDataclassError as error:
        raise ValueError(f"{where}: {' '.join(str(error).split())}") from error


def _value(hint: Any, value: Any, where: str) -> Any:
    """`value` as field type `hint` wants it: sections as dataclasses, numbers as floats or as text."""
    members = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None:
        return None
    for member in members:
        if dataclasses.is_dataclass(member):
            return _build(member, value, where)
        if member is float:
            return _as_float(value)
        if member == list[float] and isinstance(value, list):
            return [_as_float(v) for v in value]
        if member is str and isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
    return value


def _as_float(value: Any) -> Any:
    """Integers, and text such as 1e-3, which YAML 1.1 does not take for a number, as floats; all else unchanged."""
    if isinstance(value, bool):
        return value
    try:
        return float(value)
    except (TypeError, ValueError):
        return value
