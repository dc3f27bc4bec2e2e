"""Training and evaluation clips of videos, decoded when they are asked for: in the worker processes of a loader."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from hf_vits.data.splits import Split
from hf_vits.processing.decoding import VideoReader
from hf_vits.processing.sampling import sample_random_indices
from hf_vits.processing.video import VitsVideoProcessor

from .batches import Draw
from .randomness import seeded


def check_processor(processor: Any) -> VitsVideoProcessor:
    """The processor itself; ValueError for one of another kind."""
    if isinstance(processor, VitsVideoProcessor):
        return processor
    raise ValueError(
        f"the model's processor is a {type(processor).__name__}, which does not say which frames make a clip; save a "
        "VitsVideoProcessor beside the model, with its num_frames, sampling_rate, size, mean and std"
    )


class TrainingClips(Dataset):
    """Augmented clips: item `Draw` is a function of the draw alone.

    The repeats of a video in a batch are augmented versions of one clip, which is decoded once, as in SlowFast.

    Args:
        transform: from a clip (frames, channels, height, width) of uint8 to one of floats, drawing once for a clip.
        processor: whose clips to take: as many frames, as far apart.
    """

    def __init__(self, split: Split, transform: Callable[[Tensor], Tensor], processor: VitsVideoProcessor):
        self.split, self.transform, self.processor = split, transform, processor

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        return self.__getitems__([draw])[0]

    def __getitems__(self, draws: Sequence[Draw]) -> list[dict[str, Any]]:
        """The items of a batch; loaders ask for them at once."""
        clips, items = {}, []
        for draw in draws:
            source = draw.index, draw.shared_seed
            if source not in clips:
                clips[source] = self._read(*source)
            with seeded(draw.seed):
                pixel_values = self.transform(clips[source])
            labels = torch.as_tensor(self.split.labels[draw.index])
            items.append({"pixel_values": pixel_values, "labels": labels, "mixture": draw.mixture})
        return items

    def _read(self, index: int, seed: int) -> Tensor:
        """A clip that starts anywhere in the video, (frames, channels, height, width) of uint8."""
        settings = self.processor
        with VideoReader(self.split.inputs[index]) as video, seeded(seed):
            indices = sample_random_indices(
                video.info.num_frames,
                video.info.fps,
                settings.num_frames,
                settings.sampling_rate,
                settings.convention,
            )
            return torch.from_numpy(video.read(indices)).permute(0, 3, 1, 2)


class EvaluationClips(Dataset):
    """Views of videos as the video processor makes them, with labels.

    An item's pixel_values are (clips * crops, frames, channels, height, width).
    """

    def __init__(self, split: Split, processor: VitsVideoProcessor, clips: int = 1, crops: int = 1):
        self.split, self.processor, self.clips, self.crops = split, processor, clips, crops

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> dict[str, Any]:
        views = self.processor.views(self.split.inputs[index], num_clips=self.clips, num_crops=self.crops)
        return {"pixel_values": torch.stack(list(views)), "labels": torch.as_tensor(self.split.labels[index])}
