"""Windows of videos and recordings: parts as long as the inputs of a model."""

import itertools
import math
from typing import Any, NamedTuple

import numpy as np
import torch

from .decoding import VideoInfo, VideoReader
from .sampling import sample_indices, slowfast_clip_size
from .video import VitsVideoProcessor

_LONGEST_WINDOW = 30.0  # seconds, for models that take recordings of any length


class ClipWindow(NamedTuple):
    """Part of a video that is as long as a clip.

    Attributes:
        start, end: in seconds.
        indices: positions of the frames that the model sees.
    """

    start: float
    end: float
    indices: np.ndarray


class Window(NamedTuple):
    """A part of a recording, in samples.

    Attributes:
        start, end: the part that the model sees, with context.
        first, last: the part that its prediction is used for.
    """

    start: int
    end: int
    first: int
    last: int


def overlapping(samples: int, length: int) -> list[Window]:
    """Return windows of one length that cover a recording; neighbours overlap by half or more."""
    spans = [(start, min(start + length, samples)) for start in window_starts(samples, length)]
    return [Window(*span, *span) for span in spans]


def with_context(samples: int, length: int, step: int) -> list[Window]:
    """Return windows of at most `length` whose middle two thirds are adjacent, with bounds at multiples of `step`."""
    if samples <= length:
        return [Window(0, samples, 0, samples)]
    context = length // 6 // step * step
    count = math.ceil(samples / (length - 2 * context))
    cuts = [round(samples * part / count / step) * step for part in range(count)] + [samples]
    return [
        Window(max(first - context, 0), min(last + context, samples), first, last)
        for first, last in itertools.pairwise(cuts)
    ]


def window_starts(total: int, length: int) -> list[int]:
    """Return the starts of windows of one length that cover 0 to `total`; neighbours overlap by half or more."""
    room = max(total - length, 0)
    return np.linspace(0, room, 1 + math.ceil(room / (length / 2))).round().astype(int).tolist()


def slide(info: VideoInfo, processor: VitsVideoProcessor) -> list[ClipWindow]:
    """Return windows as long as a clip that cover a video; neighbours overlap by half or more."""
    settings = processor.num_frames, processor.sampling_rate, processor.convention
    length = min(clip_length(info, processor), info.num_frames)
    windows = []
    for start in window_starts(info.num_frames, length):
        (indices,) = sample_indices(length, info.fps, *settings)
        windows.append(ClipWindow(start / info.fps, (start + length) / info.fps, start + indices))
    return windows


def clip_length(info: VideoInfo, processor: VitsVideoProcessor) -> int:
    """Return how many frames of the video a clip covers; with segments, which span the whole video, all of them."""
    if processor.convention == "slowfast_segments":
        return info.num_frames
    if processor.convention == "slowfast":
        return math.ceil(slowfast_clip_size(info.fps, processor.num_frames, processor.sampling_rate))
    return processor.num_frames * processor.sampling_rate


def view(processor: VitsVideoProcessor, video: VideoReader, indices: np.ndarray) -> torch.Tensor:
    """Return frames of a video, centre-cropped and normalised: (frames, channels, height, width)."""
    (clip,) = processor.views(video.read(indices), do_sample_frames=False, num_clips=1, num_crops=1)
    return clip


def window_length(seconds: float | None, extractor: Any) -> int:
    """Return the length of a window in samples: `seconds`, or the extractor's max_length, or `_LONGEST_WINDOW`."""
    if seconds is not None:
        return max(round(seconds * extractor.sampling_rate), 1)
    if extractor.truncation:
        return extractor.max_length
    return round(_LONGEST_WINDOW * extractor.sampling_rate)


def window_logits(model: Any, extractor: Any, clips: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return the logits of each clip; if there are logits per frame, without the frames of padding."""
    # The clips are windows already; with truncation the extractor would drop the end of longer ones.
    inputs = extractor(clips, truncation=False, return_tensors="pt").to(model.device, model.dtype)
    logits = model(**inputs).logits.float().cpu()
    if logits.ndim == 2:
        return list(logits)
    lengths = model._get_feat_extract_output_lengths(inputs["attention_mask"].sum(dim=1)).tolist()
    return [row[:length] for row, length in zip(logits, lengths, strict=True)]
