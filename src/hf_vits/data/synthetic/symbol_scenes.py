"""Scenes of digits and letters of which each has a partner that is mostly there too; many symbols are hidden.

Digits are scikit-learn's scans, letters are drawn in Pillow's own font. Digit 3 and letter D, for instance, are
partners. What is hidden in an image can be inferred from a label that is known.
"""

from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_digits

LABELS = (*(f"digit {number}" for number in range(10)), *(f"letter {letter}" for letter in "ABCDEFGHIJ"))
_PAIRS = 10
_CELL, _CELLS = 8, 4  # side of a cell in pixels, cells along a side
SIDE = _CELL * _CELLS
_PAIR_RATE, _PARTNER_RATE, _ALONE_RATE = 0.3, 0.95, 0.04
_NOISE = 0.12


@cache
def _letters() -> np.ndarray:
    """Return the letters (10, 8, 8), from 0 to 1."""
    font, drawn = ImageFont.load_default(size=9), []
    for letter in "ABCDEFGHIJ":
        image = Image.new("L", (_CELL, _CELL))
        ImageDraw.Draw(image).text((_CELL / 2, _CELL / 2), letter, fill=255, font=font, anchor="mm")
        drawn.append(np.asarray(image) / 255)
    return np.stack(drawn)


@cache
def _digits() -> list[np.ndarray]:
    """Return the scans (number, 8, 8) of each digit, from 0 to 1."""
    digits = load_digits()
    return [digits.images[digits.target == number] / 16 for number in range(10)]  # pyright: ignore[reportAttributeAccessIssue]


def make_labels(count: int, random: np.random.Generator) -> np.ndarray:
    """Return labels (count, 20) of 0 and 1: of a pair that is there, each symbol is with probability 0.95."""
    pairs = random.random((count, _PAIRS)) < _PAIR_RATE
    rates = np.where(np.tile(pairs, 2), _PARTNER_RATE, _ALONE_RATE)
    labels = random.random(rates.shape) < rates
    for row in labels:  # no more symbols than cells
        present = np.flatnonzero(row)
        row[random.permutation(present)[_CELLS**2 :]] = False
    return labels.astype(np.float32)


def draw_scene(labels: np.ndarray, hidden: float, random: np.random.Generator) -> np.ndarray:
    """Return a grey image (32, 32) of uint8 with the symbols of `labels` (20,) in random cells.

    Args:
        hidden: probability that a symbol is left out, though its label stays.
    """
    scene = np.zeros((SIDE, SIDE))
    present = np.flatnonzero(labels)
    for index, cell in zip(present, random.permutation(_CELLS**2), strict=False):
        contrast = random.uniform(0.5, 1)
        scans = _digits()[index] if index < _PAIRS else _letters()[index - _PAIRS, None]
        symbol = scans[random.integers(len(scans))]
        if random.random() >= hidden:
            row, column = divmod(int(cell), _CELLS)
            scene[row * _CELL : (row + 1) * _CELL, column * _CELL : (column + 1) * _CELL] = contrast * symbol
    scene = scene + random.normal(0, _NOISE, scene.shape)
    return np.rint(scene.clip(0, 1) * 255).astype(np.uint8)


def make_scenes(count: int, hidden: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images (count, 32, 32) of uint8 and labels (count, 20) of 0 and 1."""
    random = np.random.default_rng(seed)
    labels = make_labels(count, random)
    return np.stack([draw_scene(row, hidden, random) for row in labels]), labels
