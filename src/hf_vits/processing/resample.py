"""Resampling of waveforms by a windowed sinc, the default of torchaudio's `resample`."""

import math
from functools import lru_cache

import torch

LOWPASS_FILTER_WIDTH = 6  # zero crossings of the sinc on either side
ROLLOFF = 0.99  # fraction of the lower Nyquist frequency that passes
_MOST_PRODUCTS = 2**24  # products of samples and filter taps in memory at a time, for hours of audio


def resample(waveform: torch.Tensor, from_rate: int, to_rate: int) -> torch.Tensor:
    """Resample waveforms (..., samples) from `from_rate` to `to_rate` Hz.

    Returns (..., ceil(samples * to_rate / from_rate)), equal to `torchaudio.functional.resample` up to rounding
    (method "sinc_interp_hann", width 6, roll-off 0.99). The memory needed grows with the sum of the rates, where
    torchaudio's grows with their product. Beyond its ends a waveform is taken as silent.

    Raises:
        ValueError: a rate is not a whole number above 0.
        TypeError: the waveform is not floating point.
    """
    for name, rate in (("from_rate", from_rate), ("to_rate", to_rate)):
        if rate != int(rate) or rate < 1:
            raise ValueError(f"{name} must be a whole number of Hz above 0, got {rate!r}")
    if not waveform.is_floating_point():
        raise TypeError(f"expected a waveform of floats, got {waveform.dtype}; divide integers by their range")
    from_rate, to_rate = int(from_rate), int(to_rate)
    if from_rate == to_rate:
        return waveform
    divisor = math.gcd(from_rate, to_rate)
    return _filtered(waveform, from_rate // divisor, to_rate // divisor)


def _filtered(waveform: torch.Tensor, step: int, phases: int) -> torch.Tensor:
    """Convert every `step` samples to `phases` samples, each a weighted sum of the input around its position."""
    weights, first = (table.to(waveform.device) for table in _filters(step, phases))
    weights = weights.to(waveform.dtype)
    taps = weights.shape[1]
    length = math.ceil(phases * waveform.shape[-1] / step)
    before = -int(first[0])
    last = (length - 1) // phases * step + int(first[(length - 1) % phases]) + taps
    padded = torch.nn.functional.pad(waveform, (before, max(last - waveform.shape[-1], 0)))
    windows = padded.unfold(-1, taps, 1)
    rows = max(waveform.numel() // max(waveform.shape[-1], 1), 1)
    at_a_time = max(_MOST_PRODUCTS // (taps * rows), 1)
    parts = []
    for start in range(0, length, at_a_time):
        place = torch.arange(start, min(start + at_a_time, length), device=waveform.device)
        block, phase = place // phases, place % phases
        picked = windows.index_select(-2, block * step + first[phase] + before)
        parts.append(torch.linalg.vecdot(picked, weights[phase]))
    return torch.cat(parts, dim=-1) if parts else waveform[..., :0]


@lru_cache(maxsize=32)
def _filters(step: int, phases: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return filter weights (phases, taps), and for each phase the first input sample they apply to (phases,).

    The first sample is relative to the first of a block of `step` samples. The filter is a sinc with a Hann window
    over `LOWPASS_FILTER_WIDTH` zero crossings, cut off at the lower of the two Nyquist frequencies times `ROLLOFF`.
    """
    cutoff = min(step, phases) * ROLLOFF / step  # in cycles per two input samples
    reach = LOWPASS_FILTER_WIDTH / cutoff
    centres = torch.arange(phases, dtype=torch.float64) * step / phases
    first = torch.ceil(centres - reach)
    taps = math.floor(2 * reach) + 1
    crossings = (first[:, None] + torch.arange(taps, dtype=torch.float64) - centres[:, None]) * cutoff
    inside = crossings.abs() < LOWPASS_FILTER_WIDTH
    window = torch.cos(crossings * math.pi / LOWPASS_FILTER_WIDTH / 2).square()
    weights = torch.where(inside, torch.sinc(crossings) * window * cutoff, 0.0)
    return weights.float(), first.long()
