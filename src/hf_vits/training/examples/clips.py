"""Data sets of training and evaluation clips, decoded on access, so in the worker processes of a data loader."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from hf_vits.data.checks import decoding
from hf_vits.data.splits import Split
from hf_vits.processing.decoding import VideoReader
from hf_vits.processing.sampling import sample_random_indices
from hf_vits.processing.video import VitsVideoProcessor

from .batches import SampleKey
from .randomness import seeded


def check_processor(processor: Any) -> VitsVideoProcessor:
    """Return the processor; raise ValueError if it is no `VitsVideoProcessor`."""
    if isinstance(processor, VitsVideoProcessor):
        return processor
    raise ValueError(
        f"the model's processor is a {type(processor).__name__}, which does not define the frames of a clip; save a "
        "VitsVideoProcessor beside the model, with its num_frames, sampling_rate, size, mean and std"
    )


class TrainingClips(Dataset):
    """Data set of augmented clips, indexed by a `SampleKey` that decides everything random about them.

    A sample is a dict of pixel_values (frames, channels, height, width), labels and mix_seed. The repeats of a video
    in a batch are augmented versions of one clip, which is decoded once, as in SlowFast.

    Args:
        transform: from a clip (frames, channels, height, width) of uint8 to floats; it draws once for all frames.
        processor: defines number and distance of a clip's frames.
    """

    def __init__(self, split: Split, transform: Callable[[Tensor], Tensor], processor: VitsVideoProcessor):
        self.split, self.transform, self.processor = split, transform, processor

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[SampleKey]) -> list[dict[str, Any]]:
        """Return the samples of a batch; PyTorch's data loader calls this instead of `__getitem__`."""
        clips, items = {}, []
        for key in keys:
            source = key.index, key.shared_seed
            if source not in clips:
                clips[source] = self._read(*source)
            with seeded(key.seed):
                pixel_values = self.transform(clips[source])
            labels = torch.as_tensor(self.split.labels[key.index])
            items.append({"pixel_values": pixel_values, "labels": labels, "mix_seed": key.mix_seed})
        return items

    def _read(self, index: int, seed: int) -> Tensor:
        """Decode a clip that starts at a random frame, (frames, channels, height, width) of uint8."""
        settings = self.processor
        inputs = self.split.inputs
        with decoding(inputs, index), VideoReader(inputs[index]) as video, seeded(seed):
            indices = sample_random_indices(
                video.info.num_frames,
                video.info.fps,
                settings.num_frames,
                settings.sampling_rate,
                settings.convention,
            )
            return torch.from_numpy(video.read(indices)).permute(0, 3, 1, 2)


class EvaluationClips(Dataset):
    """Data set of videos as the video processor makes them, with labels.

    An item's pixel_values are (clips * crops, frames, channels, height, width).

    Args:
        clips: number of clips of a video, spread over its length.
        crops: number of crops of each clip.
    """

    def __init__(self, split: Split, processor: VitsVideoProcessor, clips: int = 1, crops: int = 1):
        self.split, self.processor, self.clips, self.crops = split, processor, clips, crops

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> dict[str, Any]:
        with decoding(self.split.inputs, index):
            views = list(self.processor.views(self.split.inputs[index], num_clips=self.clips, num_crops=self.crops))
        return {"pixel_values": torch.stack(views), "labels": torch.as_tensor(self.split.labels[index])}
