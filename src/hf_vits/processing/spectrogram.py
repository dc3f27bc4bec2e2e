"""Spectrograms of batches of waveforms in torch: linear, mel or Kaldi's filter banks."""

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from transformers.audio_utils import mel_filter_bank, window_function

WINDOWS = ("hann", "hamming", "povey", "boxcar")
MEL_SCALES = ("slaney", "htk", "kaldi", None)
MOST = {"bins": 2**13, "n_fft": 2**17}  # more are a mistake, whose filters would fill any memory
_MOST_SAMPLES = 2**23  # samples of windows in memory at a time, for hours of audio


@dataclass(frozen=True)
class Spectrogram:
    """Computes spectrograms, frames of bins, from waveforms.

    Attributes:
        bins: number of mel filters, or n_fft // 2 + 1 without a mel scale.
        sampling_rate: in Hz.
        n_fft: points of the Fourier transform.
        win_length: samples of a window, at most n_fft.
        hop_length: samples between the starts of successive frames.
        window_function: its shape; "povey" is hann to the power of 0.85.
        center: whether frame t is centred at sample t * hop_length of the waveform, mirrored at its ends, as in
            `torch.stft`; otherwise frame t starts there, and only whole frames count (Kaldi's snip_edges).
        remove_dc_offset: whether to subtract the mean of each window.
        preemphasis: fraction of the preceding sample that is subtracted from each sample of a window.
        power: exponent of the magnitude.
        mel_scale, mel_norm: as in transformers' `mel_filter_bank`; "kaldi" has filters that are triangular in mel.
        min_frequency, max_frequency: range of the mel filters in Hz.
        floor: least value before the logarithm.
        do_log: whether to take the natural logarithm.
        log_offset: what is added before the logarithm.
        periodic: whether the window is periodic, as in torch and TensorFlow, or symmetric, as in Kaldi; None for
            periodic with `center` and symmetric without.
    """

    bins: int
    sampling_rate: int
    n_fft: int
    win_length: int
    hop_length: int
    window_function: str
    center: bool
    remove_dc_offset: bool
    preemphasis: float
    power: float
    mel_scale: str | None
    mel_norm: str | None
    min_frequency: float
    max_frequency: float
    floor: float
    do_log: bool
    log_offset: float = 0.0
    periodic: bool | None = None

    def __post_init__(self):
        for name in ("bins", "n_fft", "win_length", "hop_length"):
            if not (isinstance(getattr(self, name), int) and getattr(self, name) > 0):
                raise ValueError(f"{name} must be a whole number above 0, got {getattr(self, name)!r}")
        for name, most in MOST.items():
            if getattr(self, name) > most:
                raise ValueError(f"{name} must be at most {most}, got {getattr(self, name)!r}")
        if self.win_length > self.n_fft:
            raise ValueError(f"win_length must be at most n_fft, got {self.win_length} and {self.n_fft}")
        for name, allowed in (("window_function", WINDOWS), ("mel_scale", MEL_SCALES), ("mel_norm", ("slaney", None))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}, got {getattr(self, name)!r}")
        for name in ("power", "floor"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)!r}")
        if self.mel_scale is None and self.bins != self.n_fft // 2 + 1:
            raise ValueError(
                f"without a mel scale there are n_fft // 2 + 1 = {self.n_fft // 2 + 1} bins, got {self.bins}"
            )
        if not 0 <= self.min_frequency < self.max_frequency <= self.sampling_rate / 2:
            raise ValueError(
                f"frequencies must rise from 0 to half the sampling rate, {self.sampling_rate / 2:g} Hz, got "
                f"min_frequency {self.min_frequency!r} and max_frequency {self.max_frequency!r}"
            )

    @property
    def _margins(self) -> tuple[int, int]:
        """Return the samples that mirroring adds before and after; the window is centred in the n_fft points."""
        if not self.center:
            return 0, 0
        unused = self.n_fft - self.win_length
        return self.n_fft // 2 - unused // 2, self.n_fft // 2 - (unused - unused // 2)

    def num_frames(self, samples: int) -> int:
        """Return the number of frames of a waveform; ValueError if it is too short for one."""
        margins = self._margins
        least = max(margins) + 1 if self.center else self.win_length
        if samples < least:
            raise ValueError(
                f"a clip of {samples} samples ({samples / self.sampling_rate:.3f} s) is too short: windows of "
                f"{self.win_length} samples need at least {least} ({least / self.sampling_rate:.3f} s)"
            )
        return (samples + sum(margins) - self.win_length) // self.hop_length + 1

    def extend(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Mirror waveforms (batch, samples) at their ends, if frames are centred."""
        self.num_frames(waveforms.shape[-1])
        return F.pad(waveforms, self._margins, mode="reflect") if self.center else waveforms

    def __call__(self, extended: torch.Tensor) -> torch.Tensor:
        """Return the frames (batch, frames, bins) of waveforms from `extend`."""
        windows = extended.unfold(-1, self.win_length, self.hop_length)
        at_a_time = max(_MOST_SAMPLES // (len(extended) * self.n_fft), 1)
        return torch.cat([self._bins(part) for part in windows.split(at_a_time, dim=1)], dim=1)

    def _bins(self, windows: torch.Tensor) -> torch.Tensor:
        if self.remove_dc_offset:
            windows = windows - windows.mean(dim=-1, keepdim=True)
        if self.preemphasis:
            before = torch.cat([windows[..., :1], windows[..., :-1]], dim=-1)
            windows = windows - self.preemphasis * before
        periodic = self.center if self.periodic is None else self.periodic
        weights = _window(self.win_length, self.window_function, periodic).to(windows)
        spectrum = torch.view_as_real(torch.fft.rfft(windows * weights, n=self.n_fft))
        energy = spectrum.square().sum(dim=-1)
        bins = energy if self.power == 2 else energy.pow(self.power / 2)
        if self.mel_scale is not None:
            bins = bins @ self._filters().to(bins)
        return (bins.clamp(min=self.floor) + self.log_offset).log() if self.do_log else bins

    def _filters(self) -> torch.Tensor:
        return _mel_filters(
            self.n_fft // 2 + 1,
            self.bins,
            self.min_frequency,
            self.max_frequency,
            self.sampling_rate,
            self.mel_norm,
            self.mel_scale,
        )


@lru_cache(maxsize=32)
def _window(length: int, name: str, periodic: bool) -> torch.Tensor:
    return torch.from_numpy(window_function(length, name, periodic=periodic)).float()


@lru_cache(maxsize=32)
def _mel_filters(
    frequencies: int, bins: int, low: float, high: float, sampling_rate: int, norm: str | None, scale: str
) -> torch.Tensor:
    """Return filter weights (frequencies, bins)."""
    filters = mel_filter_bank(
        frequencies, bins, low, high, sampling_rate, norm, scale, triangularize_in_mel_space=scale == "kaldi"
    )
    return torch.from_numpy(filters).float()
