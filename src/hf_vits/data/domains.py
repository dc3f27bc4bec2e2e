"""Streams of domains: the same classes in several data sets, each of which is a task."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from hf_vits.recipe import DataRecipe, DomainRecipe

from .checks import name_of
from .splits import Inputs, Split, Splits


@dataclass(frozen=True)
class DomainSplit:
    """A stream of tasks that all have the same classes; the counterpart of `class_splits.ClassSplit`.

    Attributes:
        names: of the domains, in their order in the stream.
        num_classes: of each.
    """

    names: tuple[str, ...]
    num_classes: int

    @property
    def order(self) -> tuple[int, ...]:
        return tuple(range(self.num_classes))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of classes of each task."""
        return (self.num_classes,) * len(self.names)

    @property
    def offsets(self) -> list[int]:
        """Position of each task's first class in `order`."""
        return [0] * len(self.names)

    def tasks_of(self, split: Split) -> np.ndarray:
        """Return the task of each input of a split (inputs,)."""
        assert split.domains is not None
        return split.domains

    def positions(self, labels: np.ndarray) -> np.ndarray:
        """Return the position in `order` of each label (samples,)."""
        return labels


@dataclass(frozen=True)
class JoinedInputs:
    """Inputs of several data sets, one after the other.

    Attributes:
        parts: the inputs of each.
        ends: number of all inputs up to the end of each.
    """

    parts: Sequence[Inputs]
    ends: np.ndarray

    def __getitem__(self, index: int):
        inputs, place = self._place(index)
        return inputs[place]

    def name_of(self, index: int) -> str:
        """Return how error messages name an input."""
        return name_of(*self._place(index))

    def _place(self, index: int) -> tuple[Inputs, int]:
        part = int(np.searchsorted(self.ends, index, side="right"))
        return self.parts[part], index - (int(self.ends[part - 1]) if part else 0)


@dataclass(frozen=True)
class RotatedImages:
    """Images turned by an angle counter-clockwise in degrees; they keep their size, and corners become black."""

    images: Inputs
    angle: float

    def __getitem__(self, index: int) -> Image.Image:
        return self.images[index].rotate(self.angle, resample=Image.Resampling.BILINEAR)

    def name_of(self, index: int) -> str:
        """Return how error messages name an input."""
        return name_of(self.images, index)


def load_domains(recipe: DataRecipe, load: Callable[[DataRecipe], Splits]) -> Splits:
    """Load the domains of a recipe's data section, joined, with the domain of each input in `Split.domains`.

    Args:
        load: loads the splits of a data section without domains.

    Raises:
        ValueError: a domain has other classes than the first, or what `load` raises, with the domain's name.
        OSError: what `load` raises.
    """
    loaded: list[Splits] = []
    for name, domain in recipe.domains.items():
        try:
            splits = load(section_of(recipe, domain))
        except ValueError as error:
            raise ValueError(f"data.domains.{name}: {error}") from error
        first = loaded[0] if loaded else splits
        if list(splits.class_names) != list(first.class_names) or not splits.has_one_class:
            raise ValueError(
                f"data.domains.{name}: all domains need the same classes in the same order, and one of them for each "
                f"input; this has {list(splits.class_names)[:20]}, the first {list(first.class_names)[:20]}"
            )
        loaded.append(splits)
    angles = [domain.rotation for domain in recipe.domains.values()]
    train, validation, test = (
        _joined([getattr(splits, kind) for splits in loaded], angles) for kind in ("train", "validation", "test")
    )
    if all(splits.validation is splits.test for splits in loaded):
        validation = test
    names = list(recipe.domains)
    return Splits(loaded[0].name, loaded[0].class_names, train, validation, test, domain_names=names)


def section_of(recipe: DataRecipe, domain: DomainRecipe) -> DataRecipe:
    """Return the data section of a domain."""
    given = {name: getattr(domain, name) for name in ("source", "path", "config", "splits")}
    return replace(recipe, domains={}, **{name: value for name, value in given.items() if value})


def _joined(splits: Sequence[Split], angles: Sequence[float]) -> Split:
    counts = [len(split) for split in splits]
    parts = [
        RotatedImages(split.inputs, angle) if angle else split.inputs
        for split, angle in zip(splits, angles, strict=True)
    ]
    labels = np.concatenate([split.labels for split in splits])
    return Split(JoinedInputs(parts, np.cumsum(counts)), labels, np.repeat(np.arange(len(splits)), counts))
