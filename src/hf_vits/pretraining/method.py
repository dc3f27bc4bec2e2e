"""What a method of self-supervised learning declares so that recipes can train it and draw what it learns."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.utils.data import default_collate

# Entries of a training sample that no model takes.
_NOT_FOR_MODELS = ("labels", "mix_seed", "seed")


class Column(NamedTuple):
    """One column of a picture that has a row per image.

    Attributes:
        title: written above it.
        images: (images, channels, height, width), normalised as the model's inputs; or maps (images, rows, columns) of
            numbers of any range, or (images, rows, columns, 3) of colours from 0 to 1.
        is_map: whether `images` are maps, which are drawn as large as the images.
        hidden: (images, rows, columns), True where a patch is drawn grey.
    """

    title: str
    images: torch.Tensor
    is_map: bool = False
    hidden: torch.Tensor | None = None


class PretrainingMethod:
    """What the task `pretraining` asks of a method; mixed into its `...ForPreTraining` model.

    The model's forward returns the loss of a batch as `loss`, and further entries ending in `_loss` that are logged;
    its `export()` returns the plain backbone.
    """

    # Whether the views of an image must overlap, and samples have their boxes (`views.overlap` in a recipe).
    needs_overlap = False
    # Whether samples have the places of their global views in the image, `view_boxes`.
    needs_view_boxes = False

    @property
    def recipe_sections(self) -> set[str]:
        """Return which of the sections "views", "masks", "priors" and "momentum_teacher" a recipe needs.

        Others are refused. With "views" a sample is several views of an image, with "masks" it has masks of their
        patches, with "priors" spatial priors of them; without "views" it is one augmented image.
        """
        return set()

    @property
    def takes_mixed_views(self) -> bool:
        """Return whether `forward` takes `mixing`, the weights with which the views of images are mixed."""
        return False

    def check_number_of_views(self, num_global: int, num_local: int) -> None:
        """Raise ValueError for numbers of global and local views that the method cannot take."""

    def collator(self) -> Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]]:
        """Return the function that makes the model's keyword arguments from a list of training samples."""
        return collate

    def picture(self, pixel_values: torch.Tensor) -> list[Column]:
        """Return the columns that show best what the method does, drawn beside the images.

        Called without gradients and in evaluation mode. What is drawn at random is the same at each call.

        Args:
            pixel_values: (images, channels, height, width), on the model's device.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define picture()")


def collate(samples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Stack training samples, without their labels and seeds."""
    return default_collate(
        [{name: value for name, value in sample.items() if name not in _NOT_FOR_MODELS} for sample in samples]
    )
