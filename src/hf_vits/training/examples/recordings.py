"""Training recordings: what happens to each waveform, to its spectrogram, and to a batch of them."""

import math
from fractions import Fraction
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from hf_vits.data.splits import Split
from hf_vits.processing.resample import resample
from hf_vits.processing.waveform import to_waveforms
from hf_vits.recipe import AudioRecipe, SpecAugmentRecipe

from .batches import Draw
from .randomness import seeded

# A room's first reflections, in seconds after the sound itself, and how loud all of them together are beside it.
_REFLECTIONS_BEGIN = 0.003
_REFLECTIONS_LEVEL = 0.5


class TrainingRecordings(Dataset):
    """Augmented waveforms: item `Draw` is a function of the draw alone.

    An item is {"waveform": (samples,), "target": class or text, "seed": of its spectrogram's augmentation, "mixture"}.
    """

    def __init__(self, split: Split, recipe: AudioRecipe, sampling_rate: int):
        self.split, self.recipe, self.sampling_rate = split, recipe, sampling_rate

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        waveform = read(self.split, draw.index, self.sampling_rate)
        with seeded(draw.seed):
            waveform = augment_waveform(waveform, self.recipe, self.sampling_rate)
            seed = int(torch.randint(2**32, ()))
        return {
            "waveform": waveform,
            "target": self.split.labels[draw.index],
            "seed": seed,
            "mixture": draw.mixture,
        }


class EvaluationRecordings(Dataset):
    """Waveforms as they are: {"waveform": (samples,), "target": class or text}."""

    def __init__(self, split: Split, sampling_rate: int):
        self.split, self.sampling_rate = split, sampling_rate

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"waveform": read(self.split, index, self.sampling_rate), "target": self.split.labels[index]}


def read(split: Split, index: int, sampling_rate: int) -> Tensor:
    """The waveform (samples,) of a recording: one channel, float32, at `sampling_rate`."""
    (waveform,) = to_waveforms(split.inputs[index], sampling_rate)
    return waveform


def augment_waveform(waveform: Tensor, recipe: AudioRecipe, sampling_rate: int) -> Tensor:
    """Waveform (samples,) changed at random as `AudioRecipe` says; `speed` changes its length."""
    if recipe.speed:
        waveform = change_speed(waveform, recipe.speed[int(torch.randint(len(recipe.speed), ()))])
    if recipe.shift:
        waveform = shift(waveform, round(_between(-recipe.shift, recipe.shift) * sampling_rate))
    if _happens(recipe.polarity):
        waveform = -waveform
    if _happens(recipe.reverb):
        waveform = reverberate(waveform, _between(*recipe.reverb_seconds), sampling_rate)
    if _happens(recipe.gain):
        waveform = waveform * _ratio(_between(*recipe.gain_decibels))
    if _happens(recipe.noise):
        waveform = add_noise(waveform, _between(*recipe.noise_decibels))
    return waveform


def _happens(probability: float) -> bool:
    return probability > 0 and float(torch.rand(())) < probability


def _between(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))


def _ratio(decibels: float) -> float:
    """Of amplitudes."""
    return 10 ** (decibels / 20)


def change_speed(waveform: Tensor, factor: float) -> Tensor:
    """(samples,) to (samples / factor,): faster and higher, as a tape that runs so much faster."""
    ratio = Fraction(factor).limit_denominator(100)
    return resample(waveform, ratio.numerator, ratio.denominator)


def shift(waveform: Tensor, samples: int) -> Tensor:
    """Moved by so many samples, to the past where negative; silence fills the gap."""
    samples = max(min(samples, len(waveform)), -len(waveform))
    return F.pad(waveform, (samples, -samples))


def reverberate(waveform: Tensor, seconds: float, sampling_rate: int) -> Tensor:
    """With a room's reverberation: random reflections that fall by 60 dB in so many seconds. As long as before."""
    response = torch.randn(max(round(seconds * sampling_rate), 1))
    response *= _ratio(-60) ** torch.linspace(0, 1, len(response))
    response[: round(_REFLECTIONS_BEGIN * sampling_rate)] = 0
    response *= _REFLECTIONS_LEVEL / response.norm().clamp(min=1e-9)
    response[0] = 1
    length = len(waveform) + len(response) - 1
    spectrum = torch.fft.rfft(waveform, length) * torch.fft.rfft(response, length)
    return torch.fft.irfft(spectrum, length)[: len(waveform)]


def add_noise(waveform: Tensor, decibels: float) -> Tensor:
    """With white noise, so many decibels below the waveform's power."""
    power = waveform.square().mean().sqrt() * _ratio(-decibels)
    return waveform + power * torch.randn_like(waveform)


def spec_augment(features: Tensor, recipe: SpecAugmentRecipe, length: int) -> Tensor:
    """Spectrogram (frames, bins), of which `length` frames are the recording, changed at random.

    Masked are frames and bins with 0, which in normalised features is their mean. Time is warped, frequency masked,
    time masked, in this order, as in espnet/espnet, espnet2/asr/specaug/specaug.py.
    """
    features = features.clone()
    if recipe.time_warp:
        features[:length] = warp_time(features[:length], recipe.time_warp)
    for _ in range(recipe.frequency_masks):
        features[:, _stretch(features.shape[1], recipe.frequency_width)] = 0
    longest = recipe.time_width if recipe.time_fraction is None else math.floor(recipe.time_fraction * length)
    for _ in range(recipe.time_masks):
        features[_stretch(length, longest)] = 0
    return features


def _stretch(size: int, widest: int) -> slice:
    """A stretch of 0 to `widest` of `size` places, anywhere."""
    width = int(torch.randint(min(widest, size) + 1, ()))
    start = int(torch.randint(size - width + 1, ()))
    return slice(start, start + width)


def warp_time(features: Tensor, most: int) -> Tensor:
    """(frames, bins) with a moment moved by up to `most` frames: what is before and after it is stretched to fit."""
    frames = len(features)
    if frames <= 2 * most:
        return features
    moment = int(torch.randint(most, frames - most, ()))
    moved = moment + int(torch.randint(-most, most + 1, ()))
    moved = max(1, min(moved, frames - 1))
    parts = (features[:moment], moved), (features[moment:], frames - moved)
    return torch.cat([_stretched(part, size) for part, size in parts])


def _stretched(part: Tensor, frames: int) -> Tensor:
    resized = F.interpolate(part[None, None], (frames, part.shape[1]), mode="bicubic", align_corners=False)
    return resized[0, 0]


def mix_up(batch: dict[str, Tensor], alpha: float, probability: float, names: tuple[str, ...]) -> dict[str, Tensor]:
    """Each example of a batch mixed with the one before it (arXiv 1710.09412), in the tensors `names`, at random.

    Padding masks become those of the longer of the two.
    """
    if not _happens(probability):
        return batch
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    mixed = dict(batch)
    for name in names:
        mixed[name] = share * batch[name] + (1 - share) * batch[name].roll(1, 0)
    if "attention_mask" in batch:
        mixed["attention_mask"] = torch.maximum(batch["attention_mask"], batch["attention_mask"].roll(1, 0))
    return mixed


def augmented(features: Tensor, lengths: list[int], recipe: SpecAugmentRecipe, seeds: list[int]) -> Tensor:
    """`spec_augment` of each spectrogram of a batch (batch, frames, bins), each a function of its own seed."""
    rows = []
    for row, length, seed in zip(features, lengths, seeds, strict=True):
        with seeded(seed):
            rows.append(spec_augment(row, recipe, length))
    return torch.stack(rows)
