"""Augmentation of recordings: waveforms one by one, SpecAugment on spectrograms, MixUp of a batch."""

import math
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_vits.processing.resample import resample
from hf_vits.recipe import AudioRecipe, SpecAugmentRecipe

from .randomness import seeded

# A room's first reflections: when they begin, in seconds, and their level, all together, relative to the direct sound.
_REFLECTIONS_BEGIN = 0.003
_REFLECTIONS_LEVEL = 0.5


def augment_waveform(waveform: Tensor, recipe: AudioRecipe, sampling_rate: int) -> Tensor:
    """Augment a waveform (samples,) at random as the recipe asks for; `speed` changes its length."""
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
    """Return the ratio of amplitudes that a difference in decibels means."""
    return 10 ** (decibels / 20)


def change_speed(waveform: Tensor, factor: float) -> Tensor:
    """Resample a waveform (samples,) to (samples / factor,): tempo and pitch rise by `factor`."""
    ratio = Fraction(factor).limit_denominator(100)
    return resample(waveform, ratio.numerator, ratio.denominator)


def shift(waveform: Tensor, samples: int) -> Tensor:
    """Shift a waveform (samples,) by a number of samples, earlier where negative; zeros fill the gap."""
    samples = max(min(samples, len(waveform)), -len(waveform))
    return F.pad(waveform, (samples, -samples))


def reverberate(waveform: Tensor, seconds: float, sampling_rate: int) -> Tensor:
    """Add a room's reverberation to a waveform (samples,): random reflections that decay by 60 dB in `seconds`."""
    response = torch.randn(max(round(seconds * sampling_rate), 1))
    response *= _ratio(-60) ** torch.linspace(0, 1, len(response))
    response[: round(_REFLECTIONS_BEGIN * sampling_rate)] = 0
    response *= _REFLECTIONS_LEVEL / response.norm().clamp(min=1e-9)
    response[0] = 1
    length = len(waveform) + len(response) - 1
    spectrum = torch.fft.rfft(waveform, length) * torch.fft.rfft(response, length)
    return torch.fft.irfft(spectrum, length)[: len(waveform)]


def add_noise(waveform: Tensor, decibels: float) -> Tensor:
    """Add white noise to a waveform (samples,), `decibels` below the waveform's power."""
    power = waveform.square().mean().sqrt() * _ratio(-decibels)
    return waveform + power * torch.randn_like(waveform)


def spec_augment(features: Tensor, recipe: SpecAugmentRecipe, length: int) -> Tensor:
    """Augment a spectrogram (frames, bins) by SpecAugment (arXiv 1904.08779): time warp, frequency and time masks.

    Masks are filled with 0, the mean of normalised features. The order is that of espnet/espnet,
    espnet2/asr/specaug/specaug.py.

    Args:
        length: number of frames that belong to the recording; padding follows.
    """
    features = features.clone()
    if recipe.time_warp:
        features[:length] = warp_time(features[:length], recipe.time_warp)
    for _ in range(recipe.frequency_masks):
        features[:, _interval(features.shape[1], recipe.frequency_width)] = 0
    longest = recipe.time_width if recipe.time_fraction is None else math.floor(recipe.time_fraction * length)
    for _ in range(recipe.time_masks):
        features[_interval(length, longest)] = 0
    return features


def _interval(size: int, widest: int) -> slice:
    """Return a random interval of 0 to `widest` of `size` places."""
    width = int(torch.randint(min(widest, size) + 1, ()))
    start = int(torch.randint(size - width + 1, ()))
    return slice(start, start + width)


def warp_time(features: Tensor, most: int) -> Tensor:
    """Warp the time of a spectrogram (frames, bins): move a random frame by up to `most`, stretch both sides."""
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
    """Mix each sample of a batch with the one before it (MixUp, arXiv 1710.09412), with the given probability.

    Args:
        alpha: of the Beta distribution from which the mixing fraction is drawn, one for the batch.
        names: keys of the tensors to mix. "attention_mask", if there is one, becomes the longer of the two.
    """
    if not _happens(probability):
        return batch
    fraction = float(torch.distributions.Beta(alpha, alpha).sample())
    mixed = dict(batch)
    for name in names:
        mixed[name] = fraction * batch[name] + (1 - fraction) * batch[name].roll(1, 0)
    if "attention_mask" in batch:
        mixed["attention_mask"] = torch.maximum(batch["attention_mask"], batch["attention_mask"].roll(1, 0))
    return mixed


def augmented(features: Tensor, lengths: list[int], recipe: SpecAugmentRecipe, seeds: list[int]) -> Tensor:
    """Apply `spec_augment` to each spectrogram of a batch (batch, frames, bins), with a seed of its own.

    Args:
        lengths: number of frames of each recording, without padding.
    """
    rows = []
    for row, length, seed in zip(features, lengths, seeds, strict=True):
        with seeded(seed):
            rows.append(spec_augment(row, recipe, length))
    return torch.stack(rows)
