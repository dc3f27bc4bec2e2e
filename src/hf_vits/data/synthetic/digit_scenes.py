"""Large scenes with a few small digits among clutter, made from scikit-learn's scanned digits.

The label of a scene is a function of its digits, which are too small to be read once the scene is shrunk to the size
of the images of usual classifiers. Training and test scenes show different scans.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits

SIDE = 1024  # pixels of a scene
DIGITS = 3  # in a scene
DIGIT_SIDES = (36, 48)  # smallest and largest, in pixels
STROKES = 150
LABELS = {"largest": [str(digit) for digit in range(10)], "parity": ["even", "odd"]}
# Scans of the training scenes; the others are those of test scenes.
TRAINING_SCANS = 1400


@dataclass(frozen=True)
class DigitScenes:
    """Scenes by index, each drawn when it is asked for.

    Attributes:
        count: number of scenes.
        is_test: whether they show the scans that are held out.
        seed: random seed; the same seed gives the same scenes.
    """

    count: int
    is_test: bool = False
    seed: int = 0

    def __len__(self) -> int:
        return self.count

    def random(self, index: int) -> np.random.Generator:
        """Return the random stream of a scene."""
        if not 0 <= index < self.count:
            raise IndexError(f"scene {index} of {self.count}")
        return np.random.default_rng([self.seed, self.is_test, index])

    def chosen(self, random: np.random.Generator) -> np.ndarray:
        """Draw the scans of a scene, their numbers among scikit-learn's."""
        first, last = (TRAINING_SCANS, 1797) if self.is_test else (0, TRAINING_SCANS)
        return random.integers(first, last, size=DIGITS)

    def labels(self, kind: Literal["largest", "parity"]) -> np.ndarray:
        """Return the class of each scene: its largest digit, or whether the sum of its digits is odd."""
        targets: Any = load_digits().target  # pyright: ignore[reportAttributeAccessIssue]
        digits = np.stack([targets[self.chosen(self.random(index))] for index in range(self.count)])
        return (digits.max(axis=1) if kind == "largest" else digits.sum(axis=1) % 2).astype(np.int64)

    def __getitem__(self, index: int) -> Image.Image:
        random = self.random(index)
        scans = load_scans()[self.chosen(random)]
        scene = clutter(random)
        for scan, place in zip(scans, places(random), strict=True):
            side = int(random.integers(*DIGIT_SIDES, endpoint=True))
            digit = Image.fromarray(scan).resize((side, side), Image.Resampling.BILINEAR)
            # The scan is its own mask: only its ink covers the clutter.
            scene.paste(255, (int(place[1]), int(place[0])), digit)
        return scene


@cache
def load_scans() -> np.ndarray:
    """Return the scans (1797, 8, 8) of uint8."""
    digits: Any = load_digits()
    return np.rint(digits.images * (255 / 16)).astype(np.uint8)


def clutter(random: np.random.Generator) -> Image.Image:
    """Draw a dim background of clouds and strokes."""
    clouds = random.integers(0, 90, size=(24, 24), dtype=np.uint8)
    scene = Image.fromarray(clouds).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(scene)
    for x, y, angle, length, level in random.random((STROKES, 5)):
        start, turn, reach = (x * SIDE, y * SIDE), 2 * np.pi * angle, 20 + 40 * length
        end = (start[0] + reach * np.cos(turn), start[1] + reach * np.sin(turn))
        draw.line((*start, *end), fill=int(60 + 80 * level), width=3)
    return scene


def places(random: np.random.Generator) -> np.ndarray:
    """Draw the top left corners of the digits, far enough from each other not to overlap."""
    while True:
        corners = random.integers(0, SIDE - DIGIT_SIDES[1], size=(DIGITS, 2))
        distances = np.abs(corners[:, None] - corners[None]).max(axis=-1)
        if distances[~np.eye(DIGITS, dtype=bool)].min() > 2 * DIGIT_SIDES[1]:
            return corners
