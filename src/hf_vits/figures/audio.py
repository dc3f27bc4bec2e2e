"""Pictures of recordings."""

import matplotlib
import numpy as np
import torch
from PIL import Image
from torch import Tensor

_SIZE = (192, 128)
_WINDOW_SECONDS = 0.025
_DECIBELS = 70


def decibels(waveform: Tensor, window: int, hop: int) -> Tensor:
    """Spectrogram (frequencies, columns) of a waveform (samples,), the loudest 70 dB; the others in samples."""
    window = min(window, len(waveform))
    spectrum = torch.stft(
        waveform, window, hop, window=torch.hann_window(window), pad_mode="constant", return_complex=True
    )
    levels = 20 * spectrum.abs().clamp(min=1e-7).log10()
    return levels.clamp(min=levels.max() - _DECIBELS)


def picture(waveform: Tensor, sampling_rate: int) -> Image.Image:
    """The spectrogram of a waveform (samples,), time to the right, frequency upwards."""
    window = max(round(_WINDOW_SECONDS * sampling_rate), 16)
    levels = decibels(waveform, window, window // 4)
    shares = (levels - levels.max()) / _DECIBELS + 1
    colors = matplotlib.colormaps["magma"](shares.flip(0).numpy())
    return Image.fromarray(np.uint8(255 * colors[..., :3])).resize(_SIZE, Image.Resampling.BILINEAR)
