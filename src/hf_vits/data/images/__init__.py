"""Images that a recipe trains and tests on; their sources are the modules of `sources/`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torchvision.datasets.folder import IMG_EXTENSIONS
from transformers import PreTrainedConfig, PreTrainedModel

from hf_vits.processing.opening import open_image, to_mode

from ..checks import Media, name_of
from ..file_lists import FileInputs
from ..sources import Sources

SOURCES = Sources(f"{__name__}.sources")


@dataclass(frozen=True)
class ArrayImages:
    """Grey images in an array of uint8, (number, height, width)."""

    pixels: np.ndarray

    def __getitem__(self, index: int) -> Image.Image:
        return Image.fromarray(self.pixels[index])


@dataclass(frozen=True)
class EncodedImages:
    """Images that other inputs contain as the content of a file, or as a dict with it under "bytes"."""

    inputs: Any

    def __getitem__(self, index: int) -> Image.Image:
        found = self.inputs[index]
        return open_image(found["bytes"] or found["path"] if isinstance(found, dict) else found)

    def name_of(self, index: int) -> str:
        """Return how error messages name an input."""
        return name_of(self.inputs, index)


def backbone_config(model: PreTrainedModel) -> PreTrainedConfig:
    """Return the configuration of the model's backbone, or of the model itself if it has no separate one."""
    return getattr(model.config, "backbone_config", None) or model.config


def image_mode(model: PreTrainedModel) -> str:
    """Return the PIL mode of the images that the model takes, "L" or "RGB"; ValueError for other channels."""
    modes = {1: "L", 3: "RGB"}
    num_channels = getattr(backbone_config(model), "num_channels", 3)
    if num_channels not in modes:
        raise ValueError(f"the model takes images of {num_channels} channels; image files have 1 or 3")
    return modes[num_channels]


def image_problem(path: Path) -> str | None:
    """Return why the image cannot be decoded, None if it can."""
    try:
        with path.open("rb") as file, Image.open(file) as image:
            # A JPEG decodes several times faster at an eighth of its size, and still reads every byte.
            image.draft("RGB", (1, 1))
            image.load()
            if image.mode not in ("L", "RGB"):
                to_mode(image, "RGB")
    except Exception as error:  # damaged bytes make Pillow's readers raise nearly every type
        return str(error) or type(error).__name__
    return None


def image_endings() -> tuple[str, ...]:
    """Return the endings of image files: the usual ones, and AVIF and HEIC where Pillow or a plugin reads them."""
    readable = {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    return (*IMG_EXTENSIONS, *(ending for ending in (".avif", ".heic", ".heif") if ending in readable))


IMAGES = Media("image", image_endings(), image_problem)


class FileImages(FileInputs):
    """Images in files."""

    media = IMAGES

    def __getitem__(self, index: int) -> Image.Image:
        return open_image(self.paths[index])
