"""Image processors, by their fields, and video processors for the ways in which the originals evaluate."""

from PIL.Image import Resampling

from hf_vits.layers.patch import pair
from hf_vits.processing.video import VitsVideoProcessor

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


def slowfast_clips(
    image_size,
    num_frames: int,
    sampling_rate: int,
    short_side: int,
    segments: bool = False,
    mean=(0.45, 0.45, 0.45),
    std=(0.225, 0.225, 0.225),
) -> VitsVideoProcessor:
    """SlowFast's: the short side to `short_side`, bilinear, then the centre.

    segments: whether the frames come from segments of the whole video, as for Something-Something. What SlowFast calls
        a reversed input there makes RGB of what OpenCV reads as BGR, so these models too see red first.
    """
    convention = "slowfast_segments" if segments else "slowfast"
    return clips(convention, image_size, num_frames, sampling_rate, short_side, mean, std)


def scenic_clips(image_size, num_frames: int, sampling_rate: int, short_side: int) -> VitsVideoProcessor:
    """Scenic's: the short side to `short_side`, bilinear, then the centre; levels from -1 to 1."""
    half = (0.5, 0.5, 0.5)
    return clips("scenic", image_size, num_frames, sampling_rate, short_side, half, half)


def clips(
    convention: str, image_size, num_frames: int, sampling_rate: int, short_side: int, mean, std
) -> VitsVideoProcessor:
    height, width = pair(image_size)
    return VitsVideoProcessor(
        convention=convention,
        num_frames=num_frames,
        sampling_rate=sampling_rate,
        size={"shortest_edge": short_side},
        crop_size={"height": height, "width": width},
        image_mean=list(mean),
        image_std=list(std),
    )
