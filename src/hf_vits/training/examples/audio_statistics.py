"""Mean and standard deviation of the training spectrograms, for the processor's normalisation."""

from typing import Any

from tqdm import tqdm

from hf_vits.data.checks import UnreadableInput
from hf_vits.data.splits import Split

from .audio_batches import prepare
from .recordings import read
from .selection import spaced_indices

# Enough for a standard error of a bin's mean of about a thousandth of its standard deviation.
_MOST_RECORDINGS = 4000


def fit_normalization(processor, split: Split, skip_unreadable: bool = False):
    """Return the extractor with normalization "global": mean and standard deviation of each bin over a split.

    At most 4,000 recordings, spread evenly over the split, are measured.

    Args:
        skip_unreadable: leave out recordings that cannot be decoded.

    Raises:
        ValueError: the processor makes no spectrograms.
    """
    if not hasattr(processor, "normalization"):
        raise ValueError(
            f"audio.fit_normalization is for spectrograms; {type(processor).__name__} makes none: leave it out"
        )
    if hasattr(split.labels, "stream"):
        raise ValueError("audio.fit_normalization measures recordings by number, which a stream has not: leave it out")
    fields = processor.to_dict() | {"normalization": None}
    plain = type(processor).from_dict(fields)
    chosen = spaced_indices(len(split), _MOST_RECORDINGS)
    count = 0
    total: Any = 0.0
    squares: Any = 0.0
    for index in tqdm(chosen, desc="Measuring spectrograms", unit="recording"):
        try:
            waveform = read(split, index, plain.sampling_rate)
        except UnreadableInput:
            if skip_unreadable:
                continue
            raise
        (features,) = prepare(plain, [{"waveform": waveform}])["input_features"]
        bins = features.double() if features.ndim == 2 else features[0].T.double()
        count += len(bins)
        total, squares = total + bins.sum(0), squares + bins.square().sum(0)
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=1e-10).sqrt()
    statistics = {"normalization": "global", "mean": mean.float().tolist(), "std": std.float().tolist()}
    return type(processor).from_dict(fields | statistics)
