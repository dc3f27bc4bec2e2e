"""Views of images for methods that compare them, and masks of their patches."""

import random
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import v2 as transforms

from hf_vits.data.splits import Split
from hf_vits.objectives.masks import MaskRatio, block_mask, scattered_mask
from hf_vits.recipe.pretraining import MaskRecipe, ViewsRecipe

from .batches import SampleKey
from .crops import RecordedCrops
from .image_augmentation import Normalization, gaussian_blur
from .images import read_image
from .randomness import seeded


class MaskedPatches:
    """Draws the patches to mask in an image's global views, from its seed (bytedance/ibot, loader.py).

    Args:
        num_views: number of global views.
        grid: (rows, columns) of patches of a global view.
    """

    def __init__(self, recipe: MaskRecipe, num_views: int, grid: tuple[int, int]):
        self.ratio = MaskRatio(recipe.ratios, recipe.spreads, recipe.first_epoch)
        self.blocks = recipe.shape == "blocks"
        self.num_views, self.grid = num_views, grid

    def __call__(self, key: SampleKey) -> Tensor:
        """Return masks (global views, patches), True where a patch is masked."""
        generator = random.Random(key.seed)
        masks = [self._mask(self.ratio.draw(generator, key.epoch), generator) for _ in range(self.num_views)]
        return torch.from_numpy(np.stack(masks)).flatten(1)

    def _mask(self, ratio: float, generator: random.Random) -> np.ndarray:
        if self.blocks:
            return block_mask(self.grid, ratio, generator)
        return scattered_mask(self.grid, ratio, np.random.RandomState(generator.getrandbits(32)))


class Views(Dataset):
    """Data set of views of images, indexed by a `SampleKey` that decides everything random about them.

    A sample is a dict of pixel_values (global views, channels, height, width), local_pixel_values (local views,
    channels, local size, local size) if the recipe has local views, bool_masked_pos (global views, patches) if
    there are masks, boxes (views, 4) of left, top, right and bottom in the image if views must overlap, view_boxes
    (global views, 4) of the same as fractions of the image if they are to be recorded, priors (global views, regions,
    rows, columns) and prior_mass (global views, regions) if there are priors, and the key's seed.

    Args:
        size: (height, width) of global views.
        mode: PIL mode of the images that the model takes.
        masks: draws the masks; None: patches are not masked.
        record_boxes: whether samples have view_boxes; views are independent then, and there are no local ones.
        priors: follows each global view with the spatial priors; None: there are none.
    """

    def __init__(
        self,
        split: Split,
        recipe: ViewsRecipe,
        processor,
        size: tuple[int, int],
        mode: str,
        masks: MaskedPatches | None = None,
        record_boxes: bool = False,
        priors: "PriorsOfViews | None" = None,
    ):
        self.split, self.mode, self.masks, self.priors = split, mode, masks, priors
        self.record_boxes = record_boxes
        self.normalize = Normalization(processor)
        local_size = (recipe.local_size, recipe.local_size)
        self.overlap, self.num_global = recipe.overlap, recipe.num_global
        extents = [(size, recipe.global_scale), (size, recipe.global_scale), (local_size, recipe.local_scale)]
        first, other, local = (
            [view_crop(processor.resample, *extent), color_transform(recipe, kind)]
            for kind, extent in enumerate(extents)
        )
        self.transforms = {
            "pixel_values": [first, *[other] * (recipe.num_global - 1)],
            "local_pixel_values": [local] * recipe.num_local,
        }

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        image = read_image(self.split, key.index, self.mode)
        with seeded(key.seed):
            boxes = self.boxes_of(image, key.seed)
            made = {
                name: [view_of(image, boxes, crop, recolor) for crop, recolor in views]
                for name, views in self.transforms.items()
                if views
            }
        item = {name: self.normalize(torch.stack([view for view, _ in views])) for name, views in made.items()}
        if self.priors is not None:
            places = [place for _, place in made["pixel_values"]]
            item |= self.priors((image.height, image.width), places)
        if boxes is not None:
            item["view_boxes" if self.record_boxes else "boxes"] = torch.tensor(boxes.boxes)
        if self.masks is not None:
            item["bool_masked_pos"] = self.masks(key)
        return item | {"seed": key.seed}

    def boxes_of(self, image: Image.Image, seed: int) -> "CropBoxes | RecordedCrops | None":
        """Return what draws an image's views and keeps their boxes; None where these are not needed."""
        if self.overlap is not None:
            return CropBoxes(image, self.overlap, self.num_global)
        return RecordedCrops(image, random.Random(seed)) if self.record_boxes else None


class CropBoxes:
    """Draws the boxes of an image's views so that each overlaps the global views.

    MkuuWaUjinga/leopart, src/leopart_transforms.py: a box is drawn again until it overlaps enough.

    Args:
        overlap: smallest fraction of the image's area in common with each global view; twice as much for two global
            views.
    """

    MOST_DRAWS = 10_000

    def __init__(self, image: Image.Image, overlap: float, num_global: int):
        self.image, self.num_global = image, num_global
        self.least = int(image.width * image.height * overlap)
        self.boxes: list[list[float]] = []

    def draw(self, crop: transforms.RandomResizedCrop) -> tuple[int, int, int, int]:
        """Return top, left, height and width of the next view, and keep its box."""
        others = self.boxes[: self.num_global]
        least = self.least * (2 if len(self.boxes) < self.num_global else 1)
        for _ in range(self.MOST_DRAWS):
            top, left, height, width = RandomResizedCrop.get_params(self.image, list(crop.scale), list(crop.ratio))
            box = [float(left), float(top), float(left + width), float(top + height)]
            if all(common_area(box, other) > least for other in others):
                self.boxes.append(box)
                return top, left, height, width
        raise ValueError(
            f"no view of an image of {self.image.width} x {self.image.height} pixels overlaps the global views by "
            f"{least} pixels: lower views.overlap or raise the scales"
        )


def common_area(first: list[float], second: list[float]) -> float:
    """Return the area that two boxes (left, top, right, bottom) have in common."""
    sides = [min(first[axis + 2], second[axis + 2]) - max(first[axis], second[axis]) for axis in (0, 1)]
    return max(sides[0], 0) * max(sides[1], 0)


class Place(NamedTuple):
    """Where a view lies in its image.

    box: (top, left, height, width) in pixels.
    flipped: whether it is flipped horizontally.
    """

    box: tuple[int, int, int, int]
    flipped: bool


class RecordedCrop(transforms.RandomResizedCrop):
    """Random resized crop that remembers its last box (top, left, height, width)."""

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        self.box = tuple(params[name] for name in ("top", "left", "height", "width"))
        return super().transform(inpt, params)


class RecordedFlip(transforms.RandomHorizontalFlip):
    """Random flip that remembers whether it flipped its last input."""

    def forward(self, *inputs: Any) -> Any:
        self.flipped = False
        return super().forward(*inputs)

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        self.flipped = True
        return super().transform(inpt, params)


def view_of(
    image: Image.Image, boxes: CropBoxes | RecordedCrops | None, crop: RecordedCrop, recolor: transforms.Compose
) -> tuple[Tensor, Place]:
    """Return a random view of an image, (channels, height, width) of uint8, and its place.

    Args:
        boxes: draws the part of the image that the view shows; None: `crop` does.
        crop, recolor: see `view_crop` and `color_transform`.
    """
    if boxes is None:
        part, box = crop(image), crop.box
    else:
        box = boxes.draw(crop)
        part = transforms.functional.resized_crop(image, *box, crop.size, crop.interpolation)
    view = recolor(part)
    return view, Place(box, any(step.flipped for step in recolor.transforms if isinstance(step, RecordedFlip)))


class PriorsOfViews:
    """Spatial priors in an image's global views, cropped, resized and flipped as the image.

    Args:
        maps: (regions, height, width), not negative.
        size: (height, width) of a global view.
        grid: (rows, columns) of its patches.
    """

    def __init__(self, maps: Tensor, size: tuple[int, int], grid: tuple[int, int]):
        self.maps, self.size, self.grid = maps, size, grid

    def __call__(self, size: tuple[int, int], places: list[Place]) -> dict[str, Tensor]:
        """Return the priors of each view (views, regions, rows, columns), and the fraction of each that it holds.

        Args:
            size: (height, width) of the image.
            places: where its global views lie.
        """
        maps = self.maps
        if maps.shape[1:] != size:
            maps = nn.functional.interpolate(maps[None], size, mode="bilinear", antialias=True)[0]
        whole = maps.sum(dim=(1, 2)).clamp(min=torch.finfo(maps.dtype).tiny)
        priors, masses = [], []
        for (top, left, height, width), flipped in places:
            part = maps[:, top : top + height, left : left + width]
            masses.append(part.sum(dim=(1, 2)) / whole)
            part = nn.functional.interpolate(part[None], self.size, mode="bilinear", antialias=True)[0]
            priors.append(nn.functional.adaptive_avg_pool2d(part.flip(2) if flipped else part, self.grid))
        return {"priors": torch.stack(priors), "prior_mass": torch.stack(masses)}


def view_crop(interpolation, size: tuple[int, int], scale: list[float]) -> RecordedCrop:
    """Return the transform from a PIL image to a random part of it, resized.

    Args:
        scale: smallest and largest fraction of the image's area that a view covers.
    """
    return RecordedCrop(size, scale=tuple(scale), interpolation=interpolation)


def color_transform(recipe: ViewsRecipe, kind: int) -> transforms.Compose:
    """Return the transform from a part of an image to a view (channels, height, width) of uint8.

    Args:
        kind: 0 for the first global view, 1 for the other global views, 2 for local views.
    """
    jitter, blur = transforms.ColorJitter(*recipe.jitter), gaussian_blur()
    steps = [
        (recipe.flip, RecordedFlip(recipe.flip)),
        (recipe.color_jitter, transforms.RandomApply([jitter], p=recipe.color_jitter)),
        (recipe.grey, transforms.RandomGrayscale(recipe.grey)),
        (recipe.blur[kind], transforms.RandomApply([blur], p=recipe.blur[kind])),
        (recipe.solarize[kind], transforms.RandomSolarize(threshold=128, p=recipe.solarize[kind])),
    ]
    chosen = [step for probability, step in steps if probability]
    return transforms.Compose([*chosen, transforms.PILToTensor()])
