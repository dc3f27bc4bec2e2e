"""The video processor that all video architectures of hf_vits share."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import PILImageResampling, SizeDict, validate_kwargs
from transformers.processing_utils import VideosKwargs
from transformers.video_processing_utils import BaseVideoProcessor
from transformers.video_utils import VideoMetadata, default_sample_indices_fn, make_batched_metadata

from .frames import open_frames
from .pixels import check_scale
from .resize import tensorflow_bilinear
from .sampling import CONVENTIONS, sample_indices
from .settings import (
    check_arithmetic,
    check_channels,
    check_enlarged,
    check_fields,
    check_size,
    check_steps,
)

# More of them are a mistake, which would fill any memory.
MOST = {"num_frames": 2**14, "sampling_rate": 2**20, "num_clips": 2**10}
Normalize = Callable[[torch.Tensor], torch.Tensor]


class VitsVideoProcessorKwargs(VideosKwargs, total=False):
    """transformers' keyword arguments and ours, see `VitsVideoProcessor`."""

    convention: str | None
    sampling_rate: int | None
    num_clips: int | None
    num_crops: int | None


class VitsVideoProcessor(BaseVideoProcessor):
    """Prepares videos as each original's evaluation code does.

    Fields that transformers does not have:

    - convention: which sampling of frames (see `hf_vits.processing.sampling`) and which arithmetic to reproduce.
      "slowfast" and "slowfast_segments": (x / 255 - mean) / std, then the short side resized bilinearly without
      antialias, in floats, and margins of crops rounded up. "scenic": TensorFlow's bilinear resize without antialias,
      truncated to integers, then x * (2 / 255) - 1 for a mean and std of 0.5; margins rounded down for a single crop
      and up for three crops.
    - num_frames, sampling_rate: number of frames of a clip, and distance between them.
    - num_clips: number of clips of each video; a single one is in the middle.
    - num_crops: number of crops of each clip, 1 for the centre or 3 along its longer side.

    The originals' settings: the defaults are SlowFast's for 16x4. Its larger model has size and crop 312 with
    ImageNet's mean and std. Scenic: convention="scenic", num_frames=32, sampling_rate=2, mean and std 0.5.
    Not reproduced: SlowFast's resizing inside the decoder, by a function that torchvision has removed, and
    TensorFlow's JPEG decoding of the frames that Scenic stores.

    Takes videos alone or in lists. A video is

    - a path, a URL, the `bytes` of a file or an open binary file, of which only the frames of the clips are decoded
      (by PyAV or, if it is installed, torchcodec);
    - a `torchcodec` `VideoDecoder`, as in `datasets`;
    - decoded frames: a list of PIL images, arrays or tensors, or an array or tensor with frames first. They are
      sampled like those of a file if `video_metadata` has their `fps`. Otherwise `num_frames` of them are taken,
      evenly spaced, as in transformers.

    With do_sample_frames=False all frames are taken, with `fps` in place of `num_frames` so many per second.

    Returns `pixel_values`, float32 of shape (videos * num_clips * num_crops, frames, channels, height, width) with
    return_tensors="pt", all crops of a clip before the next clip, all clips of a video before the next video. Videos
    are read one after the other: beside the result, only the frames of one clip are in memory.

    Raises TypeError, ValueError and OSError, at construction or when called, with the file or value given and what is
    expected.
    """

    valid_kwargs = VitsVideoProcessorKwargs
    model_input_names = ["pixel_values"]

    convention = "slowfast"
    num_frames = 16
    sampling_rate = 4
    num_clips = 1
    num_crops = 1
    do_sample_frames = True
    do_convert_rgb = True
    do_resize = True
    size = {"shortest_edge": 256}
    default_to_square = False
    resample = PILImageResampling.BILINEAR
    do_center_crop = True
    crop_size = {"height": 224, "width": 224}
    do_rescale = True
    do_normalize = True
    image_mean = [0.45, 0.45, 0.45]
    image_std = [0.225, 0.225, 0.225]

    def __init__(self, **kwargs: Any):
        if __name__.startswith("hf_vits."):
            kwargs.pop("auto_map", None)  # as in `VitsConfig`: only a repository's copy of this class needs it
        check_fields(self.valid_kwargs, kwargs)
        super().__init__(**kwargs)

    def preprocess(self, videos: Any, **kwargs: Any) -> BatchFeature:
        """Prepare videos, see the class; `kwargs` override its fields."""
        return_tensors = kwargs.pop("return_tensors", None)
        settings = self._settings(kwargs)
        views, metadata = [], []
        for index, (video, known) in enumerate(_flatten(videos, settings.pop("video_metadata"))):
            try:
                for clip, about in self._clips(video, known, **settings):
                    views += self._crops(clip, **settings)
                    metadata.append(about)
            except (TypeError, ValueError, OSError) as error:
                error.add_note(f"(video {index} of the batch)")
                raise
        batch = BatchFeature({"pixel_values": views}, tensor_type=return_tensors)
        if settings["return_metadata"]:
            batch["video_metadata"] = metadata
        return batch

    def views(self, video: Any, **kwargs: Any) -> Iterator[torch.Tensor]:
        """Yield the views of one video, (frames, channels, height, width), as `preprocess` returns them.

        Only one clip is in memory at a time.
        """
        settings = self._settings(kwargs)
        videos = _flatten(video, settings.pop("video_metadata"))
        if len(videos) != 1:
            raise ValueError(f"expected one video, got {len(videos)}")
        for clip, _ in self._clips(*videos[0], **settings):
            yield from self._crops(clip, **settings)

    def sample_frames(
        self,
        metadata: VideoMetadata,
        num_frames: int | None = None,
        fps: float | None = None,
        convention: str | None = None,
        sampling_rate: int | None = None,
        num_clips: int = 1,
        **kwargs: Any,
    ) -> np.ndarray:
        """Return the positions of the sampled frames, (num_clips, frames)."""
        num_frames = num_frames or self.num_frames
        if fps is None and metadata.fps is not None:
            return sample_indices(
                metadata.total_num_frames,
                metadata.fps,
                num_frames,
                sampling_rate or self.sampling_rate,
                convention or self.convention,
                num_clips,
            )
        if num_clips > 1:
            raise ValueError(f"num_clips={num_clips} needs the video's own fps, and no fps to sample at")
        return default_sample_indices_fn(metadata, fps=fps, num_frames=None if fps is not None else num_frames)[None]

    def _settings(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return all settings, checked: those given, and the fields of this processor for the others."""
        if kwargs.get("fps") is not None and kwargs.get("num_frames") is not None:
            raise ValueError("give either num_frames or fps, got both")
        names = self.valid_kwargs.__annotations__
        validate_kwargs(captured_kwargs=kwargs.keys(), valid_processor_keys=list(names))
        check_fields(self.valid_kwargs, kwargs)
        given = {name: value for name, value in kwargs.items() if value is not None}
        if "num_frames" in given:
            given["fps"] = None
        return self._standardize_kwargs(**{name: getattr(self, name, None) for name in names} | given)

    def _standardize_kwargs(self, **kwargs: Any) -> dict[str, Any]:
        kwargs = super()._standardize_kwargs(**kwargs)
        _check_settings(**kwargs)
        return kwargs

    def _clips(
        self, video: Any, metadata: VideoMetadata | None, do_sample_frames: bool | None, **settings: Any
    ) -> Iterator[tuple[torch.Tensor, VideoMetadata]]:
        """Yield each clip (frames, channels, height, width) with metadata that has the positions of its frames."""
        with open_frames(video, metadata) as frames:
            if do_sample_frames:
                clips = self.sample_frames(frames.metadata, **settings)
            else:
                clips = np.arange(frames.metadata.total_num_frames)[None]
            for indices in clips:
                clip = frames.read(indices, bool(settings["do_convert_rgb"]), settings["input_data_format"])
                if settings["do_rescale"]:
                    check_scale(clip, settings["rescale_factor"])
                yield clip, replace(frames.metadata, frames_indices=indices.tolist())

    def _crops(
        self,
        clip: torch.Tensor,
        convention: str,
        do_resize: bool | None,
        size: SizeDict,
        do_center_crop: bool | None,
        crop_size: SizeDict,
        do_rescale: bool | None,
        rescale_factor: float,
        do_normalize: bool | None,
        image_mean: tuple[float, ...] | float,
        image_std: tuple[float, ...] | float,
        num_crops: int,
        device: torch.device | str | None,
        **settings: Any,
    ) -> list[torch.Tensor]:
        """Return the views of a clip (frames, channels, height, width), resized, normalised and cropped."""
        if do_normalize:
            check_channels(clip.shape[1], image_mean, image_std)
        if device is not None:
            clip = clip.to(device)
        rows, columns = clip.shape[-2:]
        target = resized_size(rows, columns, size, convention) if do_resize else (rows, columns)
        mean, std = (image_mean, image_std) if do_normalize else (0.0, 1.0)
        normalize = make_normalize(convention, rescale_factor if do_rescale else 1.0, mean, std, clip.device)
        prepare = as_scenic if convention == "scenic" else as_slowfast
        height, width = (crop_size["height"], crop_size["width"]) if do_center_crop else target
        corners = crop_corners(target, (height, width), num_crops if do_center_crop else 1, convention)
        crops = [[] for _ in corners]
        # Frame by frame: in floats, the whole clip before resizing and cropping may take many times the memory.
        for frame in clip:
            prepared = prepare(frame.contiguous(), target, normalize)
            for crop, (top, left) in zip(crops, corners, strict=True):
                crop.append(prepared[..., top : top + height, left : left + width].clone())
        return [torch.stack(crop) for crop in crops]


def _flatten(videos: Any, metadata: Any) -> list[tuple[Any, VideoMetadata | None]]:
    """Return each video of a batch, however nested, with its metadata or None."""
    if not (videos := list(_each(videos))):
        raise ValueError("expected at least one video, got an empty batch")
    known = make_batched_metadata(videos, metadata) if metadata else [None] * len(videos)
    return list(zip(videos, known, strict=True))


def _each(videos: Any) -> Iterator[Any]:
    if isinstance(videos, list | tuple):
        if not videos:
            raise ValueError("expected videos or frames of one, got an empty list")
        if all(_is_frame(item) for item in videos):
            yield videos
        else:
            for item in videos:
                yield from _each(item)
    elif _is_frame(videos):
        yield [videos]
    elif getattr(videos, "ndim", None) == 5:
        yield from videos
    else:
        yield videos


def _is_frame(item: Any) -> bool:
    return isinstance(item, Image.Image) or getattr(item, "ndim", None) in (2, 3)


def resized_size(height: int, width: int, size: SizeDict, convention: str) -> tuple[int, int]:
    """Return height and width of a resized frame, with the longer side rounded as in the originals."""
    short = size.shortest_edge
    if short is None:
        return size["height"], size["width"]
    if min(height, width) == short:
        return height, width
    if convention == "scenic":
        target = max(short, height * short // width), max(short, width * short // height)
    elif width < height:
        target = math.floor(height / width * short), short
    else:
        target = short, math.floor(width / height * short)
    check_enlarged((height, width), target, short)
    return target


def crop_corners(
    frame: tuple[int, int], crop: tuple[int, int], num_crops: int, convention: str
) -> list[tuple[int, int]]:
    """Return (top, left) of each crop: the centre, or three along the width of wide frames or the height of others."""
    room = [side - part for side, part in zip(frame, crop, strict=True)]
    if min(room) < 0:
        raise ValueError(
            f"crop_size is {crop[0]} x {crop[1]}, larger than frames of {frame[0]} x {frame[1]} after resizing; "
            "choose a smaller crop_size, a larger size, or do_center_crop=False"
        )
    round_up = num_crops > 1 or convention != "scenic"
    top, left = ((margin + round_up) // 2 for margin in room)
    if num_crops == 1:
        return [(top, left)]
    if frame[0] > frame[1]:
        return [(0, left), (top, left), (room[0], left)]
    return [(top, 0), (top, left), (top, room[1])]


def make_normalize(
    convention: str,
    scale: float,
    mean: tuple[float, ...] | float,
    std: tuple[float, ...] | float,
    device: torch.device,
) -> Normalize:
    """Return the function from pixels to (pixels * scale - mean) / std with the rounding of the original."""
    offsets, divisors = (torch.tensor(values, dtype=torch.float64).view(-1, 1, 1) for values in (mean, std))
    if convention == "scenic":  # one factor and one offset: 2 / 255 and 1
        factor, offset = (constant.to(device, torch.float32) for constant in (scale / divisors, offsets / divisors))
        return lambda frame: frame.to(torch.float32) * factor - offset
    white = 1 / scale
    offsets, divisors = (constant.to(device, torch.float32) for constant in (offsets, divisors))
    return lambda frame: (frame.to(torch.float32) / white - offsets) / divisors


def as_slowfast(frame: torch.Tensor, target: tuple[int, int], normalize: Normalize) -> torch.Tensor:
    """Normalise a frame (channels, height, width), then resize it.

    Source: facebookresearch/SlowFast, slowfast/datasets/{utils,transform}.py.
    """
    frame = normalize(frame)
    if tuple(frame.shape[-2:]) == target:
        return frame
    return functional.interpolate(frame[None], target, mode="bilinear", align_corners=False)[0]


def as_scenic(frame: torch.Tensor, target: tuple[int, int], normalize: Normalize) -> torch.Tensor:
    """Resize a frame (channels, height, width), truncated to integers, then normalise it.

    Source: google-deepmind/dmvr, dmvr/processors.py.
    """
    if tuple(frame.shape[-2:]) != target:
        frame = tensorflow_bilinear(frame, target).to(frame.dtype)
    return normalize(frame)


def _check_settings(
    convention: str,
    num_frames: int | None,
    sampling_rate: int,
    num_clips: int,
    num_crops: int,
    size: SizeDict | None,
    crop_size: SizeDict | None,
    resample: PILImageResampling | int | None,
    rescale_factor: float | None,
    **kwargs: Any,
) -> None:
    check_arithmetic(convention, CONVENTIONS, rescale_factor)
    numbers = {"num_frames": num_frames, "sampling_rate": sampling_rate, "num_clips": num_clips}
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be above 0, got {value}")
        if value is not None and value > MOST[name]:
            raise ValueError(f"{name} must be at most {MOST[name]}, got {value}")
    if num_crops not in (1, 3):
        raise ValueError(f"num_crops must be 1 or 3, got {num_crops}")
    if resample != PILImageResampling.BILINEAR:
        raise ValueError(f"resample must be 2 (BILINEAR), as in the originals, got {resample!r}")
    check_size("size", size, [{"height", "width"}, {"shortest_edge"}])
    check_size("crop_size", crop_size, [{"height", "width"}])
    check_steps(size=size, crop_size=crop_size, rescale_factor=rescale_factor, **kwargs)
