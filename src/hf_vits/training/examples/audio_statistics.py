"""Mean and standard deviation of the training spectrograms, by which a processor normalises."""

from typing import Any

import numpy as np
from tqdm import tqdm

from hf_vits.data.splits import Split

from .audio_batches import prepare
from .recordings import read

# Enough to know the mean of a bin to about a thousandth of its spread.
_MOST_RECORDINGS = 4000


def fit_normalization(processor, split: Split):
    """The spectrogram extractor with normalization "global", by the bins of a split's recordings.

    Of many recordings, 4,000 spread over the split are looked at. ValueError for a processor of waveforms.
    """
    if not hasattr(processor, "normalization"):
        raise ValueError(f"audio.fit_normalization is for spectrograms; {type(processor).__name__} makes none")
    fields = processor.to_dict() | {"normalization": None}
    plain = type(processor).from_dict(fields)
    chosen = np.linspace(0, len(split) - 1, min(len(split), _MOST_RECORDINGS)).round().astype(int)
    count: int = 0
    total: Any = 0.0
    squares: Any = 0.0
    for index in tqdm(chosen, desc="Measuring spectrograms", unit="recording"):
        (features,) = prepare(plain, [{"waveform": read(split, int(index), plain.sampling_rate)}])["input_features"]
        bins = features.double() if features.ndim == 2 else features[0].T.double()
        count += len(bins)
        total, squares = total + bins.sum(0), squares + bins.square().sum(0)
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=1e-10).sqrt()
    statistics = {"normalization": "global", "mean": mean.float().tolist(), "std": std.float().tolist()}
    return type(processor).from_dict(fields | statistics)
