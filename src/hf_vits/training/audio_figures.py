"""Pictures of recordings."""

import matplotlib
import numpy as np
import torch
from PIL import Image
from torch import Tensor

_SIZE = (192, 128)
_WINDOW_SECONDS = 0.025
_DECIBELS = 70


def picture(waveform: Tensor, sampling_rate: int) -> Image.Image:
    """The spectrogram of a waveform (samples,), time to the right, frequency upwards, the loudest 70 dB of it."""
    window = min(max(round(_WINDOW_SECONDS * sampling_rate), 16), len(waveform))
    spectrum = torch.stft(
        waveform,
        window,
        max(window // 4, 1),
        window=torch.hann_window(window),
        pad_mode="constant",
        return_complex=True,
    )
    decibels = 20 * spectrum.abs().clamp(min=1e-6).log10()
    shares = ((decibels - decibels.max()) / _DECIBELS + 1).clamp(0, 1)
    colors = matplotlib.colormaps["magma"](shares.flip(0).numpy())
    return Image.fromarray(np.uint8(255 * colors[..., :3])).resize(_SIZE, Image.Resampling.BILINEAR)
