"""The image processor that all image architectures of hf_vits share."""

import math
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torchvision.transforms.v2 import functional as tvF
from transformers.image_processing_backends import TorchvisionBackend
from transformers.image_processing_utils import BatchFeature
from transformers.image_transforms import group_images_by_shape, reorder_images
from transformers.image_utils import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    ChannelDimension,
    ImageInput,
    PILImageResampling,
    SizeDict,
    is_valid_image,
)
from transformers.processing_utils import ImagesKwargs

from .opening import open_image
from .pixels import check_scale, to_pixels
from .resize import pillow_resize, tensorflow_area, tensorflow_bilinear
from .settings import (
    MOST_ENLARGED_PIXELS,
    check_arithmetic,
    check_channels,
    check_enlarged,
    check_fields,
    check_size,
    check_steps,
)

CONVENTIONS = ("torchvision", "vision_transformer", "big_vision")
TENSORFLOW_RESIZE = {PILImageResampling.BILINEAR: tensorflow_bilinear, PILImageResampling.BOX: tensorflow_area}


class VitsImageProcessorKwargs(ImagesKwargs, total=False):
    """transformers' keyword arguments, and two more, see `VitsImageProcessor`."""

    convention: str
    do_grayscale: bool


class VitsImageProcessor(TorchvisionBackend):
    """Prepares images as each original's evaluation code does, bit for bit for 8-bit images on the CPU.

    `do_grayscale` makes one channel of every image, as Pillow's mode "L", for models with num_channels=1; it goes
    before do_convert_rgb, and image_mean and image_std then have one value.

    The other fields are those of transformers, except `convention`, which selects the arithmetic to reproduce:

    - "torchvision", also for timm: Pillow's antialiased resize, to integers; margins of the centre crop rounded half
      to even; (x / 255 - mean) / std.
    - "vision_transformer": TensorFlow's resize without antialias, to floats; (x - 255 mean) / (255 std).
    - "big_vision": TensorFlow's resize, truncated to integers; the longer side rounded in float32; margins of the
      centre crop rounded down; (x / 255 - mean) / std.

    With the last two, `resample` is BILINEAR, or BOX for TensorFlow's method "area".
    The originals' settings at 224 pixels:

    - DeiT and most PyTorch originals: size={"shortest_edge": 256}, that is int(224 / crop_pct), crop_size=224,
      resample=BICUBIC, mean and std of ImageNet: the defaults. DeiT III, and CCT on CIFAR and Flowers: crop_pct=1;
      CCT on ImageNet: 0.9.
      Sources: facebookresearch/deit, datasets.py; timm, data/transforms_factory.py.
    - vision_transformer: size={"height": 224, "width": 224}, do_center_crop=False, resample=BILINEAR, all mean and
      std 0.5. Source: google-research/vision_transformer, vit_jax/input_pipeline.py.
    - detectors: size={"shortest_edge": 800, "longest_edge": 1333}, the shorter side to 800 unless the longer one would
      be above 1333, both rounded to the nearest pixel; do_center_crop=False, resample=BILINEAR.
      Source: facebookresearch/detectron2, data/transforms/augmentation_impl.py, ResizeShortestEdge.
    - big_vision: size={"shortest_edge": 256}, crop_size=224, resample=BOX, all mean and std 0.5.
      Source: google-research/big_vision, pp/ops_image.py and pp/ops_general.py.

    Takes PIL images, arrays and tensors, alone or in lists, see `hf_vits.processing.pixels.to_pixels`; also paths,
    URLs and base64 strings, which `hf_vits.processing.opening.open_image` opens. It applies EXIF orientation, which is
    not applied to PIL images that the caller opened.
    Returns `pixel_values`, float32 of shape (batch, channels, height, width) with return_tensors="pt".

    Float images, and all images on a `device` other than the CPU, are resized by torchvision's kernels instead of
    Pillow; for 8-bit images the two differ by up to 2 levels of 255. The decoding of files is not reproduced: by
    default TensorFlow decodes JPEG less exactly than Pillow, with differences of up to 6 levels.

    Raises TypeError and ValueError, at construction or when called, with the value given and what is expected.
    """

    valid_kwargs = VitsImageProcessorKwargs

    convention = "torchvision"
    do_convert_rgb = True
    do_grayscale = False
    do_resize = True
    size = {"shortest_edge": 256}
    resample = PILImageResampling.BICUBIC
    do_center_crop = True
    crop_size = {"height": 224, "width": 224}
    do_rescale = True
    do_normalize = True
    image_mean = IMAGENET_DEFAULT_MEAN
    image_std = IMAGENET_DEFAULT_STD

    def __init__(self, **kwargs: Any):
        if __name__.startswith("hf_vits."):
            kwargs.pop("auto_map", None)  # as in `VitsConfig`: only a repository's copy of this class needs it
        check_fields(self.valid_kwargs, kwargs)
        super().__init__(**kwargs)

    def preprocess(self, images: ImageInput, *args: Any, **kwargs: Any) -> BatchFeature:
        """Prepare images, see the class; `kwargs` override its fields."""
        check_fields(self.valid_kwargs, kwargs)
        return super().preprocess(images, *args, **kwargs)

    def fetch_images(self, images: Any) -> Any:
        """Open paths and URLs with Pillow, as the PyTorch originals do; torchvision decodes differently."""
        if isinstance(images, (list, tuple)):
            return [self.fetch_images(image) for image in images]
        if isinstance(images, (str, os.PathLike)):
            return open_image(images)
        if is_valid_image(images):
            return images
        raise TypeError(
            f"expected a PIL image, numpy array, torch tensor, path or URL, or a list of these, "
            f"got {type(images).__name__}"
        )

    def process_image(
        self,
        image: ImageInput,
        do_convert_rgb: bool | None = None,
        input_data_format: str | ChannelDimension | None = None,
        device: torch.device | str | None = None,
        do_rescale: bool | None = None,
        rescale_factor: float | None = None,
        do_grayscale: bool | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Check an image and convert it to a tensor (channels, height, width) of uint8 or float32."""
        mode = "L" if do_grayscale else "RGB" if do_convert_rgb else None
        pixels = to_pixels(image, mode, input_data_format)
        if do_rescale:
            check_scale(pixels, rescale_factor)
        return pixels.to(device) if device is not None else pixels

    def _prepare_image_like_inputs(self, images: ImageInput, *args: Any, **kwargs: Any) -> list[torch.Tensor]:
        prepared = []
        for image in _flatten(self.fetch_images(images)):
            try:
                prepared.append(self.process_image(image, *args, **kwargs))
            except (TypeError, ValueError, OSError) as error:  # OSError: a truncated file
                error.add_note(f"(image {len(prepared)} of the batch)")
                raise
        if not prepared:
            raise ValueError("expected at least one image, got an empty batch")
        return prepared

    def _standardize_kwargs(self, **kwargs: Any) -> dict[str, Any]:
        kwargs = super()._standardize_kwargs(**kwargs)
        _check_settings(**kwargs)
        return kwargs

    def _preprocess(
        self,
        images: list[torch.Tensor],
        convention: str,
        do_resize: bool | None,
        size: SizeDict,
        resample: PILImageResampling | int,
        do_center_crop: bool | None,
        crop_size: SizeDict,
        do_rescale: bool | None,
        rescale_factor: float,
        do_normalize: bool | None,
        image_mean: tuple[float, ...] | float,
        image_std: tuple[float, ...] | float,
        do_pad: bool | None,
        pad_size: SizeDict | None,
        disable_grouping: bool | None,
        return_tensors: str | None,
        **kwargs: Any,
    ) -> BatchFeature:
        groups, order = group_images_by_shape(images, disable_grouping=disable_grouping)
        for shape, group in groups.items():
            if do_resize:
                group = self.resize(group, size, resample, convention)
            if do_center_crop:
                group = self.center_crop(group, crop_size, convention)
            if do_normalize:
                check_channels(group.shape[-3], image_mean, image_std)
            if do_rescale and convention != "vision_transformer":
                # The originals divide; multiplying by 1/255, or by 1/(255 std), differs in the last bit.
                group = group.to(torch.float32) / (1 / rescale_factor)
                groups[shape] = self.normalize(group, image_mean, image_std) if do_normalize else group
            else:
                groups[shape] = self.rescale_and_normalize(
                    group, do_rescale, rescale_factor, do_normalize, image_mean, image_std
                )
        processed = reorder_images(groups, order)
        if do_pad:
            processed = self.pad(processed, pad_size=pad_size, disable_grouping=disable_grouping)
        return BatchFeature(data={"pixel_values": processed}, tensor_type=return_tensors)

    def resize(
        self, image: torch.Tensor, size: SizeDict, resample: PILImageResampling | int, convention: str = "torchvision"
    ) -> torch.Tensor:
        """Resize images (..., channels, height, width), uint8 or float32, with the arithmetic of `convention`."""
        height, width = image.shape[-2:]
        target = _resized_size(height, width, size, convention)
        if (height, width) == target:
            return image
        if convention == "torchvision":
            if image.dtype == torch.uint8 and image.device.type == "cpu":
                return pillow_resize(image, target, PILImageResampling(resample))
            return self._resize_tensor(image, target, resample)
        resized = TENSORFLOW_RESIZE[resample](image, target)
        if convention == "big_vision" and image.dtype == torch.uint8:
            return resized.clamp(0, 255).to(torch.uint8)  # truncated, not rounded
        return resized

    def _resize_tensor(
        self, image: torch.Tensor, target: tuple[int, int], resample: PILImageResampling | int
    ) -> torch.Tensor:
        if resample in (PILImageResampling.BOX, PILImageResampling.HAMMING):
            raise ValueError(
                f"resample={resample!r} needs Pillow, which resizes 8-bit images on the CPU; got {image.dtype} on "
                f"{image.device}: pass 8-bit images without device, or resample=3 (BICUBIC)"
            )
        # Width first, then height, both rounded to integers for 8-bit images, as Pillow does. In one step the bicubic
        # overshoot of the first would not be clipped, and the difference would be up to 22 levels instead of 2.
        for height, width in ((image.shape[-2], target[1]), target):
            image = super().resize(image, SizeDict(height=height, width=width), resample)
        return image

    def center_crop(self, image: torch.Tensor, size: SizeDict, convention: str = "torchvision") -> torch.Tensor:
        """Crop the centre of images (..., channels, height, width); smaller ones are first padded with zeros."""
        padded = max(image.shape[-2], size["height"]), max(image.shape[-1], size["width"])
        if math.prod(padded) > max(MOST_ENLARGED_PIXELS, size["height"] * size["width"], math.prod(image.shape[-2:])):
            raise ValueError(
                f"crop_size={dict(size)} would pad images of {tuple(image.shape[-2:])} pixels to {padded}, more than "
                f"{MOST_ENLARGED_PIXELS} pixels; choose a smaller one"
            )
        if convention == "torchvision":
            return tvF.center_crop(image, [size.height, size.width])
        return super().center_crop(image, size)  # rounds an odd margin down, as big_vision does


def _flatten(images: Any) -> Iterator[Any]:
    if isinstance(images, (list, tuple)):
        for image in images:
            yield from _flatten(image)
    elif getattr(images, "ndim", None) == 4:
        yield from images
    else:
        yield images


def _resized_size(height: int, width: int, size: SizeDict, convention: str) -> tuple[int, int]:
    if size.shortest_edge is None:
        return size["height"], size["width"]
    if size.longest_edge is not None:
        factor = min(size.shortest_edge / min(height, width), size.longest_edge / max(height, width))
        target = max(int(height * factor + 0.5), 1), max(int(width * factor + 0.5), 1)
    elif convention == "big_vision":
        factor = np.float32(size.shortest_edge) / np.float32(min(height, width))
        target = int(np.rint(np.float32(height) * factor)), int(np.rint(np.float32(width) * factor))
    else:
        short = min(height, width)
        target = int(size.shortest_edge * height / short), int(size.shortest_edge * width / short)
    check_enlarged((height, width), target, size.shortest_edge)
    return target


def _check_settings(
    convention: str,
    do_resize: bool | None,
    size: SizeDict | None,
    crop_size: SizeDict | None,
    resample: PILImageResampling | int | None,
    rescale_factor: float | None,
    **kwargs: Any,
) -> None:
    check_arithmetic(convention, CONVENTIONS, rescale_factor)
    if (do_resize or resample is not None) and resample not in list(PILImageResampling):
        raise ValueError(f"resample must be a PIL.Image.Resampling or its number, 0 to 5, got {resample!r}")
    if convention != "torchvision" and resample not in TENSORFLOW_RESIZE:
        raise ValueError(
            f"resample must be 2 (BILINEAR) or 4 (BOX, TensorFlow's area) with convention={convention!r}, "
            f"got {resample!r}"
        )
    check_size("size", size, [{"height", "width"}, {"shortest_edge"}, {"shortest_edge", "longest_edge"}])
    check_size("crop_size", crop_size, [{"height", "width"}])
    check_steps(do_resize=do_resize, size=size, crop_size=crop_size, rescale_factor=rescale_factor, **kwargs)
