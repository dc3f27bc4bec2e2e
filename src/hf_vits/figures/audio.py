"""Pictures of recordings: spectrograms in decibels."""

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from PIL import Image
from torch import Tensor

_SIZE = (192, 128)  # pixels
_WINDOW_SECONDS = 0.025
# Samples in a column of a spectrogram on axes, and its number of columns.
_LOOKED_AT = 512
_COLUMNS_PER_SECOND, _MOST_COLUMNS = 40, 2000
_RANGE = 70  # decibels between the loudest and the darkest colour


def power_spectrogram(waveform: Tensor, window: int, hop: int) -> Tensor:
    """Return the power spectrogram (frequencies, columns) of a waveform (samples,), in decibels.

    Levels more than 70 dB below the loudest are raised to that level.

    Args:
        window, hop: length of a Hann window and distance between windows, in samples.
    """
    window = min(window, len(waveform))
    spectrum = torch.stft(
        waveform, window, hop, window=torch.hann_window(window), pad_mode="constant", return_complex=True
    )
    levels = 20 * spectrum.abs().clamp(min=1e-7).log10()
    return levels.clamp(min=levels.max() - _RANGE)


def spectrogram_image(waveform: Tensor, sampling_rate: int) -> Image.Image:
    """Return a picture of a waveform's spectrogram, 192 x 128 pixels, time to the right, frequency upwards.

    Args:
        waveform: (samples,).
        sampling_rate: samples per second.
    """
    window = max(round(_WINDOW_SECONDS * sampling_rate), 16)
    levels = power_spectrogram(waveform, window, window // 4)
    brightness = (levels - levels.max()) / _RANGE + 1  # from 0 to 1
    colors = matplotlib.colormaps["magma"](brightness.flip(0).numpy())
    return Image.fromarray(np.uint8(255 * colors[..., :3])).resize(_SIZE, Image.Resampling.BILINEAR)


def add_spectrogram(axes: Axes, waveform: Tensor, sampling_rate: int) -> None:
    """Draw the spectrogram of a waveform (samples,) on axes, over seconds and kHz."""
    extent = (0, len(waveform) / sampling_rate, 0, sampling_rate / 2000)
    hop = max(sampling_rate // _COLUMNS_PER_SECOND, len(waveform) // _MOST_COLUMNS, 1)
    levels = power_spectrogram(waveform, _LOOKED_AT, hop).numpy()
    axes.imshow(levels, origin="lower", aspect="auto", extent=extent, cmap="magma")
    axes.set(xlabel="s", ylabel="kHz")
