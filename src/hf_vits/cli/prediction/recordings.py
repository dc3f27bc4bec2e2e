"""Running models on the windows of recordings and drawing these, for classification and recognition."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm
from transformers import PreTrainedModel

from hf_vits.figures.audio import add_spectrogram
from hf_vits.figures.grid import save_figure
from hf_vits.processing.waveform import audio_length, load_audio
from hf_vits.processing.windows import Window, window_logits

MOST_DRAWN = 8


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
        add_spectrogram(axes, waveform, sampling_rate)
        if number < len(recordings) - 1:
            axes.set_xlabel("")
        axes.set_title(title, loc="left", fontsize=9)
        add(number, axes)
    figure.parent.mkdir(parents=True, exist_ok=True)
    save_figure(canvas, figure)
