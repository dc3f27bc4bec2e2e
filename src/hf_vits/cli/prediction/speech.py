"""Recognition of speech."""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from transformers import AutoProcessor

from hf_vits.data.audio import AUDIO as MEDIA
from hf_vits.processing.windows import Window, with_context

from ..models import load_with
from .recordings import MOST_DRAWN, draw_recordings, run_windows

CHECKED_FIRST = True
_WINDOW = 30.0  # seconds
_LONGEST_TITLE = 95  # characters


def predict(args: argparse.Namespace, paths: list[Path]) -> list[dict[str, Any]]:
    """Return {file, text, words: [{word, start, end}, ...]} per recording; with a beam search there are no words.

    Long recordings are recognised window by window, each with context before and after it.
    """
    model, processor = load_with(AutoProcessor, args.model)
    extractor, step = processor.feature_extractor, model.config.inputs_to_logits_ratio
    length = round((args.window or _WINDOW) * extractor.sampling_rate)
    cut = partial(with_context, length=max(length, 12 * step), step=step)
    rows, drawn = [], []
    for path, waveform, windows, logits in run_windows(model, extractor, paths, cut, args.batch_size, "Recognising"):
        joined = torch.cat([own_frames(*pair, step) for pair in zip(windows, logits, strict=True)])
        rows.append({"file": str(path), **recognise(processor, joined, step, args.beams)})
        if len(drawn) < MOST_DRAWN:
            drawn.append(waveform)
    if args.figure:
        draw(rows, drawn, extractor.sampling_rate, args.figure)
    return rows


def own_frames(window: Window, logits: torch.Tensor, step: int) -> torch.Tensor:
    """Return the frames from `first` to `last` of a window's logits (frames, tokens), without its context."""
    first = (window.first - window.start) // step
    if window.last == window.end:
        return logits[first:]
    return logits[first : first + (window.last - window.first) // step]


def recognise(processor: Any, logits: torch.Tensor, step: int, num_beams: int) -> dict[str, Any]:
    """Return the text of logits (frames, tokens), one per `step` samples, and its words with times in seconds."""
    if num_beams > 1:
        return {"text": processor.decode_logits(logits[None], num_beams=num_beams)[0]}
    decoded = processor.tokenizer.decode(logits.argmax(dim=-1), output_word_offsets=True)
    frame = step / processor.feature_extractor.sampling_rate
    words = [
        {"word": word["word"], "start": word["start_offset"] * frame, "end": word["end_offset"] * frame}
        for word in decoded["word_offsets"]
    ]
    return {"text": decoded["text"], "words": words}


def shortened(title: str) -> str:
    """Cut a title that is too long for a figure."""
    return title if len(title) <= _LONGEST_TITLE else f"{title[:_LONGEST_TITLE]} ..."


def draw(rows: list[dict[str, Any]], waveforms: list[torch.Tensor], sampling_rate: int, figure: Path) -> None:
    """Draw spectrograms with each word at the time it is said."""

    def add(number: int, axes: Axes) -> None:
        for word in rows[number].get("words", []):
            axes.axvline(word["start"], color="white", linewidth=0.5)
            top = axes.get_ylim()[1]
            text = axes.text(word["start"], top, word["word"], color="white", fontsize=7, va="top", clip_on=True)
            text.set_in_layout(False)

    titles = [shortened(f"{Path(row['file']).name}: {row['text']}") for row in rows[: len(waveforms)]]
    draw_recordings(list(zip(titles, waveforms, strict=True)), sampling_rate, add, figure)


__all__ = ["CHECKED_FIRST", "MEDIA", "predict"]
