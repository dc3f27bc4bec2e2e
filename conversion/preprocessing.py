"""Fields of the image processor for the ways in which the originals evaluate."""

from PIL.Image import Resampling

from hf_vits.layers.patch import pair

IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def resize_and_crop(image_size, crop_ratio: float, mean=IMAGENET_MEAN, std=IMAGENET_STD) -> dict:
    """The short side to image_size / crop_ratio, rounded down, bicubic; then the centre; normalised."""
    height, width = pair(image_size)
    return {
        "size": {"shortest_edge": int(min(height, width) / crop_ratio)},
        "crop_size": {"height": height, "width": width},
        "resample": Resampling.BICUBIC,
        "do_center_crop": True,
        "image_mean": list(mean),
        "image_std": list(std),
    }


def stretch(image_size, mean=IMAGENET_MEAN, std=IMAGENET_STD) -> dict:
    """To image_size whatever the shape, bicubic, without a crop; normalised."""
    height, width = pair(image_size)
    return {
        "size": {"height": height, "width": width},
        "resample": Resampling.BICUBIC,
        "do_center_crop": False,
        "image_mean": list(mean),
        "image_std": list(std),
    }
