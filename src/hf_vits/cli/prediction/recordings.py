"""Reading recordings, cutting long ones into windows and drawing them, for classification and recognition."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm
from transformers import PreTrainedModel

from hf_vits.figures.audio import power_spectrogram
from hf_vits.figures.grid import save_figure
from hf_vits.processing.waveform import audio_length, load_audio

from .windows import window_starts

MOST_DRAWN = 8
# Samples in a column of a drawn spectrogram, and its number of columns.
_LOOKED_AT = 512
_COLUMNS_PER_SECOND, _MOST_COLUMNS = 40, 2000


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


def run_windows(
    model: PreTrainedModel,
    extractor: Any,
    paths: Sequence[Path],
    cut: Callable[[int], list[Window]],
    batch_size: int,
    description: str,
) -> Iterator[tuple[Path, torch.Tensor, list[Window], list[torch.Tensor]]]:
    """Yield each file with its waveform, its windows and the logits of each window; show a progress bar of seconds."""
    seconds = round(sum(samples / rate for samples, rate in map(audio_length, paths)), 1)
    with torch.inference_mode(), tqdm(total=seconds, desc=description, unit="s", disable=None) as bar:
        for path in paths:
            waveform = load_audio(path, extractor.sampling_rate)
            windows = cut(len(waveform))
            bar.set_postfix_str(f"{path.name}, {len(windows)} window(s)")
            logits = []
            for start in range(0, len(windows), batch_size):
                batch = windows[start : start + batch_size]
                clips = [waveform[one.start : one.end] for one in batch]
                try:
                    logits += window_logits(model, extractor, clips)
                except ValueError as error:
                    raise ValueError(f"{path}: {error}") from error
                done = windows[start - 1].last if start else 0
                bar.update((batch[-1].last - done) / extractor.sampling_rate)
            yield path, waveform, windows, logits


def window_logits(model: Any, extractor: Any, clips: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return the logits of each clip; if there are logits per frame, without the frames of padding."""
    # The clips are windows already; with truncation the extractor would drop the end of longer ones.
    inputs = extractor(clips, truncation=False, return_tensors="pt").to(model.device, model.dtype)
    logits = model(**inputs).logits.float().cpu()
    if logits.ndim == 2:
        return list(logits)
    lengths = model._get_feat_extract_output_lengths(inputs["attention_mask"].sum(dim=1)).tolist()
    return [row[:length] for row, length in zip(logits, lengths, strict=True)]


def draw_recordings(
    recordings: Sequence[tuple[str, torch.Tensor]],
    sampling_rate: int,
    add: Callable[[int, Axes], None],
    figure: Path,
) -> None:
    """Draw a spectrogram per (title, waveform), over seconds and kHz; `add` draws the predictions on its axes."""
    canvas = Figure(figsize=(10, 2.4 * len(recordings)), layout="constrained")
    for number, (title, waveform) in enumerate(recordings):
        axes = canvas.add_subplot(len(recordings), 1, number + 1)
        extent = (0, len(waveform) / sampling_rate, 0, sampling_rate / 2000)
        hop = max(sampling_rate // _COLUMNS_PER_SECOND, len(waveform) // _MOST_COLUMNS, 1)
        levels = power_spectrogram(waveform, _LOOKED_AT, hop).numpy()
        axes.imshow(levels, origin="lower", aspect="auto", extent=extent, cmap="magma")
        axes.set(ylabel="kHz", xlabel="s" if number == len(recordings) - 1 else None)
        axes.set_title(title, loc="left", fontsize=9)
        add(number, axes)
    figure.parent.mkdir(parents=True, exist_ok=True)
    save_figure(canvas, figure)
