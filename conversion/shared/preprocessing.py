"""Fields of image processors, and video processors, that repeat the originals' evaluation preprocessing."""

from PIL.Image import Resampling

from hf_vits.configuration import pair
from hf_vits.processing.video import VitsVideoProcessor

IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def resize_and_crop(image_size, crop_ratio: float, mean=IMAGENET_MEAN, std=IMAGENET_STD) -> dict:
    """Return fields: short side to image_size / crop_ratio, rounded down, bicubic; centre crop; normalise."""
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
    """Return fields: resize to image_size whatever the aspect ratio, bicubic; no crop; normalise."""
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
    """Return SlowFast's preprocessing: resize the short side to `short_side`, bilinear; centre crop; normalise.

    Args:
        segments: whether frames are drawn from segments of the whole video, as for Something-Something. SlowFast's
            "reversed input" for it only turns OpenCV's BGR into RGB, so the channels are RGB here too.
    """
    convention = "slowfast_segments" if segments else "slowfast"
    return clips(convention, image_size, num_frames, sampling_rate, short_side, mean, std)


def scenic_clips(image_size, num_frames: int, sampling_rate: int, short_side: int) -> VitsVideoProcessor:
    """Return Scenic's preprocessing: short side to `short_side`, bilinear; centre crop; values scaled to [-1, 1]."""
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
