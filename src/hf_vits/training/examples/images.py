"""Training images: geometric and photometric augmentation per image, MixUp and CutMix per batch."""

from typing import Any

import torch
from torch.nn.functional import one_hot
from torch.utils.data import Dataset, default_collate
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms import v2 as transforms

from hf_vits.data.splits import Split
from hf_vits.objectives.classification import as_distribution
from hf_vits.recipe import AugmentationRecipe

from .batches import Draw
from .clip_augmentation import ClipRandAugment
from .randomness import seeded

# RandAugment's papers give magnitudes of 10; finer steps let the magnitude vary by less than one.
_MAGNITUDE_STEPS = 10


class TrainingImages(Dataset):
    """Augmented images: item `Draw` is a function of the draw alone."""

    def __init__(self, split: Split, transform: transforms.Transform, mode: str):
        self.split, self.transform, self.mode = split, transform, mode

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        with seeded(draw.seed):
            pixel_values = self.transform(self.split.inputs[draw.index].convert(self.mode))
        return {"pixel_values": pixel_values, "labels": int(self.split.labels[draw.index]), "mixture": draw.mixture}


class EvaluationImages(Dataset):
    """Images as the image processor makes them, with labels."""

    def __init__(self, split: Split, processor, mode: str):
        self.split, self.processor, self.mode = split, processor, mode

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = self.split.inputs[index].convert(self.mode)
        pixel_values = self.processor(images=image, return_tensors="pt")["pixel_values"][0]
        return {"pixel_values": pixel_values, "labels": int(self.split.labels[index])}


class TrainingCollator:
    """Batch of items of `TrainingImages` or of clips: pixel_values (batch, ..., channels, height, width), labels.

    Labels are (batch,), or (batch, classes) in runs that mix and where inputs have several labels.
    """

    def __init__(self, recipe: AugmentationRecipe, num_classes: int):
        self.num_classes = num_classes
        self.mix = mixing(recipe, num_classes)

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        mixture = items[0]["mixture"]
        batch = default_collate([{k: v for k, v in item.items() if k != "mixture"} for item in items])
        if batch["labels"].ndim == 2:
            batch["labels"] = one_hot(batch["labels"], self.num_classes).sum(dim=1).float()
        if self.mix is None:
            return batch
        images, labels = batch["pixel_values"], as_distribution(batch["labels"], self.num_classes)
        if mixture is not None:
            if images.ndim == 5:  # clips, which torchvision mixes only under this name
                images = tv_tensors.Video(images)
            with seeded(mixture):
                images, labels = (mixed[1:] for mixed in self.mix(images, labels))
        return {"pixel_values": images.as_subclass(torch.Tensor), "labels": labels}


def mixing(recipe: AugmentationRecipe, num_classes: int) -> transforms.Transform | None:
    """MixUp, CutMix or a draw between them, over (images, one-hot labels); None if both are off."""
    mixup = transforms.MixUp(alpha=recipe.mixup, num_classes=num_classes) if recipe.mixup else None
    cutmix = transforms.CutMix(alpha=recipe.cutmix, num_classes=num_classes) if recipe.cutmix else None
    if mixup and cutmix:
        mix = transforms.RandomChoice([mixup, cutmix], p=[1 - recipe.mix_switch, recipe.mix_switch])
    else:
        mix = mixup or cutmix
    return mix and transforms.RandomApply([mix], p=recipe.mix_probability)


def training_transform(recipe: AugmentationRecipe, processor, size: tuple[int, int]) -> transforms.Transform:
    """PIL image to a float tensor (channels, *size), scaled and normalised as `processor` does."""
    interpolation = recipe.interpolation or processor.resample
    fill = [round(255 * mean) for mean in processor.image_mean] if processor.do_normalize else 0
    steps = [_resize(recipe, size, interpolation)]
    if recipe.flip:
        steps.append(transforms.RandomHorizontalFlip(recipe.flip))
    if affine := recipe.affine:
        steps.append(
            transforms.RandomAffine(
                degrees=affine.degrees,
                translate=(affine.translate, affine.translate),
                scale=(1 - affine.scale, 1 + affine.scale),
                shear=affine.shear,
                interpolation=InterpolationMode.BILINEAR,
                fill=0,
            )
        )
    if randaugment := recipe.randaugment:
        if randaugment.policy == "scenic":
            steps.append(ClipRandAugment(randaugment.ops, randaugment.magnitude))
        else:
            steps.append(RandAugment(randaugment.ops, randaugment.magnitude, randaugment.std, fill=fill))
    if recipe.three_augment:
        steps.append(three_augment())
    if strength := recipe.color_jitter:
        steps.append(transforms.ColorJitter(brightness=strength, contrast=strength, saturation=strength))
    if recipe.grey:
        steps.append(transforms.RandomGrayscale(recipe.grey))
    steps += [transforms.PILToTensor(), *normalization(processor)]
    if recipe.erasing:
        steps.append(transforms.RandomErasing(recipe.erasing, value="random"))
    return transforms.Compose(steps)


def _resize(recipe: AugmentationRecipe, size: tuple[int, int], interpolation: Any) -> transforms.Transform:
    """Any image to `size`: by a random crop, after padding or resizing or before, or whole."""
    if interpolation == "random":
        return transforms.RandomChoice([_resize(recipe, size, name) for name in ("bilinear", "bicubic")])
    if isinstance(interpolation, str):
        interpolation = InterpolationMode(interpolation)
    if recipe.crop_scale is not None:
        crop = ClippedResizedCrop if recipe.crop_clipped else transforms.RandomResizedCrop
        return crop(size, scale=recipe.crop_scale, ratio=recipe.crop_ratio, interpolation=interpolation)
    if recipe.crop_padding is not None:
        crop = transforms.RandomCrop(size, padding=recipe.crop_padding, padding_mode="reflect", pad_if_needed=True)
        return transforms.Compose([transforms.Resize(min(size), interpolation=interpolation), crop])
    if recipe.short_side is not None:
        low, high = recipe.short_side
        crop = transforms.RandomCrop(size, pad_if_needed=True)
        return transforms.Compose([transforms.RandomResize(low, high + 1, interpolation=interpolation), crop])
    return transforms.Resize(size, interpolation=interpolation)


class ClippedResizedCrop(transforms.RandomResizedCrop):
    """torchvision's crop, but drawn once: what of it does not fit into the image is cut off, whatever shape remains.

    facebookresearch/mae, util/crop.py, after BYOL.
    """

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        height, width = transforms.functional.get_size(flat_inputs[0])
        area = height * width * torch.empty(1).uniform_(*self.scale).item()
        ratio = torch.empty(1).uniform_(*torch.tensor(self.ratio).log().tolist()).exp().item()
        cropped_width = min(round((area * ratio) ** 0.5), width)
        cropped_height = min(round((area / ratio) ** 0.5), height)
        top = torch.randint(0, height - cropped_height + 1, size=(1,)).item()
        left = torch.randint(0, width - cropped_width + 1, size=(1,)).item()
        return {"top": top, "left": left, "height": cropped_height, "width": cropped_width}


class RandAugment(transforms.RandAugment):
    """torchvision's RandAugment with magnitudes of 10, drawn anew for each image around `magnitude`.

    timm writes this policy as rand-m<magnitude>-mstd<std>-inc1; all of torchvision's operations grow with magnitude.
    """

    def __init__(self, ops: int, magnitude: float, std: float, fill: Any = None):
        super().__init__(
            num_ops=ops,
            num_magnitude_bins=10 * _MAGNITUDE_STEPS + 1,
            interpolation=InterpolationMode.BILINEAR,
            fill=fill,
        )
        self.mean, self.std = magnitude, std

    def forward(self, *inputs: Any) -> Any:
        magnitude = self.mean + self.std * float(torch.randn(()))
        self.magnitude = round(min(max(magnitude, 0.0), 10.0) * _MAGNITUDE_STEPS)
        return super().forward(*inputs)


def three_augment() -> transforms.Transform:
    """Grey, solarize or Gaussian blur, each as likely: DeiT III, facebookresearch/deit, augment.py.

    The original blurs with PIL's radius, 0.1 to 2, which is the standard deviation.
    """
    return transforms.RandomChoice(
        [
            transforms.RandomGrayscale(p=1.0),
            transforms.RandomSolarize(threshold=128, p=1.0),
            transforms.GaussianBlur(kernel_size=13, sigma=(0.1, 2.0)),
        ]
    )


def normalization(processor) -> list[transforms.Transform]:
    """The last steps of the image processor, of (..., channels, height, width) of bytes: rescaled, normalised."""
    steps: list[transforms.Transform] = [transforms.ToDtype(torch.float32)]
    if processor.do_rescale:
        steps.append(_Scale(processor.rescale_factor))
    if processor.do_normalize:
        mean, std = list(processor.image_mean), list(processor.image_std)
        steps.append(transforms.Normalize(mean, std, inplace=True))  # of a copy, which ToDtype made
    return steps


class _Scale(transforms.Transform):
    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def transform(self, inpt: torch.Tensor, params: dict[str, Any]) -> torch.Tensor:
        return inpt * self.factor
