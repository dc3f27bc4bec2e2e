"""Data sets of clips with sound and captions, decoded on access, so in the worker processes of a data loader."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from hf_vits.data.checks import decoding
from hf_vits.data.splits import Split
from hf_vits.processing.clips import Clip, ClipReader
from hf_vits.processing.sampling import sample_indices, sample_random_indices
from hf_vits.processing.vatt import VattProcessor
from hf_vits.recipe import AudioRecipe

from .audio_augmentation import augment_waveform
from .batches import SampleKey
from .randomness import seeded


class CaptionedClips(Dataset):
    """Data set of clips with sound and captions as a model of all modalities takes them.

    A sample is a dict of pixel_values (frames, channels, height, width); input_values (samples,) or input_features
    (frames, bins), of silence where there is no sound; input_ids (captions, words), of padding where there is no
    caption; audio_mask and text_mask, 0. where there is none; and labels.

    Args:
        captions: number of captions of a sample.
    """

    def __init__(self, split: Split, processor: VattProcessor, captions: int):
        self.split, self.processor, self.captions = split, processor, captions

    def __len__(self) -> int:
        return len(self.split)

    def read(self, index: int, draw: Callable[..., np.ndarray]) -> Clip:
        """Decode the frames that a function of `sampling` chooses, and the sound from the first of them on."""
        video, sound = self.processor.video_processor, self.processor.feature_extractor
        inputs = self.split.inputs
        with decoding(inputs, index), ClipReader(inputs[index].path) as reader:
            info = reader.info
            indices = draw(info.num_frames, info.fps, video.num_frames, video.sampling_rate, video.convention)
            return reader.read_clip(indices.reshape(-1), sound.max_length / sound.sampling_rate, sound.sampling_rate)  # pyright: ignore[reportAttributeAccessIssue]

    def heard(self, waveform: Tensor | None) -> dict[str, Tensor]:
        """Return the model's inputs for a waveform (samples,), or for none."""
        extractor, has_sound = self.processor.feature_extractor, waveform is not None and len(waveform) > 0
        found = extractor(waveform if has_sound else torch.zeros(1), return_tensors="pt")
        return {name: value[0] for name, value in found.items()} | {"audio_mask": torch.tensor(float(has_sound))}

    def worded(self, captions: list[str]) -> dict[str, Tensor]:
        """Return the model's inputs for captions, filled up with empty ones."""
        filled = captions + [""] * (self.captions - len(captions))
        found = self.processor(text=filled, return_tensors="pt")["input_ids"]
        return {"input_ids": found, "text_mask": torch.tensor(float(bool((found != 0).any())))}

    def label(self, index: int) -> Tensor:
        """Return the class of a clip, or -1."""
        return torch.as_tensor(self.split.labels[index])


class TrainingCaptionedClips(CaptionedClips):
    """Data set of augmented clips, indexed by a `SampleKey` that decides everything random about them.

    Args:
        transform: from a clip (frames, channels, height, width) of uint8 to floats; it draws once for all frames.
        audio: augmentation of the sound.
    """

    def __init__(self, split, processor, captions, transform: Callable[[Tensor], Tensor], audio: AudioRecipe):
        super().__init__(split, processor, captions)
        self.transform, self.audio = transform, audio

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        with seeded(key.seed):
            frames, sound = self.read(key.index, sample_random_indices)
            if sound is not None and len(sound):
                sound = augment_waveform(sound, self.audio, self.processor.feature_extractor.sampling_rate)
            captions = self.split.inputs[key.index].captions
            order = torch.randperm(len(captions))[: self.captions].tolist()
            pixel_values = self.transform(torch.from_numpy(frames).permute(0, 3, 1, 2))
        texts = self.worded([captions[place] for place in order])
        return {"pixel_values": pixel_values, **self.heard(sound), **texts, "labels": self.label(key.index)}


class EvaluationCaptionedClips(CaptionedClips):
    """Data set of the central clip of each video with its sound and its first captions, indexed by number."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        frames, sound = self.read(index, sample_indices)
        clip = self.processor.video_processor(list(frames), do_sample_frames=False, return_tensors="pt")
        texts = self.worded(list(self.split.inputs[index].captions[: self.captions]))
        return {"pixel_values": clip["pixel_values"][0], **self.heard(sound), **texts, "labels": self.label(index)}
