"""Classification of images."""

import argparse
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from hf_vits.data.images import IMAGES as MEDIA
from hf_vits.data.images import image_mode
from hf_vits.data.known_labels import known_states
from hf_vits.data.label_groups import class_probabilities
from hf_vits.figures.runs import Prediction, draw_predictions
from hf_vits.processing.opening import open_image

from ..models import load_classifier
from .windows import outcome, title_of

_MOST_DRAWN = 48
_AHEAD = 2  # batches that are prepared while one is used
CHECKED_FIRST = False  # an image is decoded once, when it is classified


def predict(args: argparse.Namespace, paths: list[Path]) -> list[dict[str, Any]]:
    """Return {file, predictions: [{label, score}, ...]} per image; draw the first ones with --figure.

    Where several labels may be true, `labels` are those whose score reaches their threshold. Of a regression, an image
    has `numbers`, {target: number}, in place of predictions.
    """
    model, processor = load_classifier(args.model)
    states = known_states(model, args.known) if args.known else None
    predictions = list(classify(model, processor, paths, args.top_k, args.batch_size, states))
    if args.figure:
        draw(predictions[:_MOST_DRAWN], args.figure)
    return predictions


def classify(
    model, processor, paths: list[Path], top_k: int, batch_size: int, states: torch.Tensor | None = None
) -> Iterator[dict[str, Any]]:
    """Yield {file, predictions: [{label, score}, ...]} per image, most probable class first; see `predict`.

    With thresholds for early exits, `exit` is the number of the exit at which an image left, 1 for the first.

    Args:
        states: known labels (num_labels,) of all images, for a model that takes them.
    """
    mode = image_mode(model)
    with torch.inference_mode(), tqdm(total=len(paths), desc="Classifying", unit="image", disable=None) as bar:
        for batch, pixel_values in prepared(paths, processor, mode, batch_size):
            known = None if states is None else states.to(model.device).expand(len(batch), -1)
            labels = {} if known is None else {"known_labels": known}
            outputs = model(pixel_values.to(model.device, model.dtype), **labels)
            exits = outputs.get("exits")
            left = [{}] * len(batch) if exits is None else [{"exit": index + 1} for index in exits.tolist()]
            rows = class_probabilities(model.config, outputs.logits)
            for path, scores, more in zip(batch, rows, left, strict=True):
                yield {"file": str(path), **outcome(model.config, scores, top_k), **more}
            bar.update(len(batch))


def prepared(
    paths: Sequence[Path], processor: Any, mode: str, batch_size: int
) -> Iterator[tuple[Sequence[Path], torch.Tensor]]:
    """Yield batches of paths and of their pixel values.

    While one is used, threads open the images of the next ones, each by itself, and prepare them, batch by batch.
    """
    batches = [paths[start : start + batch_size] for start in range(0, len(paths), batch_size)]

    def prepare(images: list[Future]) -> torch.Tensor:
        return processor([image.result() for image in images], return_tensors="pt")["pixel_values"]

    with ThreadPoolExecutor() as opening, ThreadPoolExecutor(_AHEAD) as preparing:

        def start(batch: Sequence[Path]) -> Future:
            return preparing.submit(prepare, [opening.submit(open_image, path, mode) for path in batch])

        coming = deque(map(start, batches[:_AHEAD]))
        for number, batch in enumerate(batches):
            pixel_values = coming.popleft().result()
            coming.extend(map(start, batches[number + _AHEAD :][:1]))
            yield batch, pixel_values


def draw(predictions: list[dict[str, Any]], figure: Path) -> None:
    """Draw images with their most probable class."""
    figure.parent.mkdir(parents=True, exist_ok=True)
    draw_predictions([Prediction(open_image(row["file"], "RGB"), None, *title_of(row)) for row in predictions], figure)


__all__ = ["CHECKED_FIRST", "MEDIA", "predict"]
