"""What a report is about: images of a folder, and models with what their image processors make of these images."""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from hf_vits.analysis.robustness.adversarial import Normalised
from hf_vits.analysis.taps import Recording, count_prefix_tokens, find_blocks, record, vision_encoder
from hf_vits.data.checks import find_unreadable
from hf_vits.data.folders import class_directories, visible_files
from hf_vits.data.images import IMAGES, image_mode
from hf_vits.evaluation.accuracy import labels_of_model
from hf_vits.processing.opening import open_image
from hf_vits.processing.settings import channel_values

BATCH = 16  # images per forward pass


@dataclass
class Images:
    """Image files of a folder.

    Attributes:
        paths: of the images, in order.
        labels: index into class_names for each image; None without labels.
        left_out: {file: why it is not used}.
        found: number of images in the folder, of which `paths` may be a part.
    """

    folder: Path
    paths: list[Path]
    labels: list[int] | None = None
    class_names: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    found: int = 0

    def name(self, index: int) -> str:
        """Return the path of an image within the folder."""
        return self.paths[index].relative_to(self.folder).as_posix()

    def open(self, index: int) -> Image.Image:
        return open_image(self.paths[index], "RGB")


def find_images(folder: Path, labelled: bool, most: int) -> Images:
    """Return the images of a folder, at any depth; files that are no images are left out by name.

    Args:
        labelled: whether the folder has a folder for each class.
        most: number of images; of more, as many are taken at even distances.

    Raises:
        FileNotFoundError: no such folder, no images in it, or no class folders.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"--images {folder} is no folder")
    roots = class_directories(folder) if labelled else [folder]
    if not roots:
        raise FileNotFoundError(f"--labels needs a folder of images for each class, but {folder} has no folders in it")
    left_out, paths, labels = {}, [], []
    if labelled:
        loose = [path for path in visible_files(folder) if path.parent == folder]
        left_out = {path.name: "in no folder of a class" for path in loose}
    for label, root in enumerate(roots):
        for path in visible_files(root):
            if path.name.lower().endswith(IMAGES.endings):
                paths.append(path)
                labels.append(label)
            else:
                left_out[path.relative_to(folder).as_posix()] = "no image file"
    unreadable = find_unreadable(paths, IMAGES)
    left_out |= {path.relative_to(folder).as_posix(): problem for path, problem in unreadable.items()}
    kept = [index for index, path in enumerate(paths) if path not in unreadable]
    if not kept:
        others = f"; {len(left_out)} other files: {', '.join(list(left_out)[:5])}" if left_out else ""
        raise FileNotFoundError(f"{folder} has no image files ({' '.join(IMAGES.endings)}){others}")
    chosen = [kept[index] for index in spread(len(kept), most)]
    return Images(
        folder,
        [paths[index] for index in chosen],
        [labels[index] for index in chosen] if labelled else None,
        [root.name for root in roots] if labelled else [],
        left_out,
        len(kept),
    )


def spread(count: int, most: int) -> list[int]:
    """Return at most `most` indices below `count`, evenly spread."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, most))})


@dataclass
class Subject:
    """A model and its view of the images.

    Attributes:
        name: short, for titles and legends.
        source: folder or repository.
        model: takes pixel_values; a classifier where the saved model is one.
        pixel_values: (images, channels, height, width), as the image processor made them.
        mean, std: of each channel, which the image processor normalised with.
    """

    name: str
    source: str
    model: nn.Module
    pixel_values: Tensor
    mean: list[float]
    std: list[float]

    @property
    def config(self) -> Any:
        return getattr(self.model, "config", None)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""
        return self.pixel_values.shape[-2], self.pixel_values.shape[-1]

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def num_blocks(self) -> int:
        return len(find_blocks(self.model))

    @property
    def prefix(self) -> int:
        """Number of class, distillation and register tokens."""
        return count_prefix_tokens(self.model)

    def is_classifier(self) -> bool:
        return "ForImageClassification" in type(self.model).__name__

    def classifier(self) -> Normalised:
        """Return the classifier of images in [0, 1]; ValueError where the model has none."""
        if not self.is_classifier():
            raise ValueError(f"a {type(self.model).__name__} has no classifier")
        return Normalised(self.model, self.mean, self.std)

    def unit_images(self, indices: Sequence[int] | None = None) -> Tensor:
        """Return images (images, channels, height, width) in [0, 1], as the model sees them, on the CPU."""
        pixels = self.pixel_values if indices is None else self.pixel_values[list(indices)]
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
        return (pixels.float() * std + mean).clamp(0, 1)

    def inputs(self, indices: Sequence[int]) -> Tensor:
        """Return pixel values on the model's device."""
        return self.pixel_values[list(indices)].to(self.device)

    def record(self, indices: Sequence[int], wanted: str | Sequence[str], layers: Sequence[int] | None = None):
        """Return the `taps.Recording` of some images."""
        return record(self.model, self.inputs(indices), wanted, layers)

    def attention(self, indices: Sequence[int]) -> Recording:
        """Return the attentions of some images; ValueError where they are not among all patches of one grid."""
        seen = self.record(indices, "attentions")
        grids, counts = set(seen.grids), {attention.shape[-2:] for attention in seen.attentions}
        shapes = {len(attention) for attention in seen.attentions} | {len(indices)}
        if len(grids) != 1 or None in grids or len(counts) != 1 or len(shapes) != 1:
            raise ValueError(
                "its blocks do not all attend among all patches of one grid, but within windows or stages"
            )
        return seen


@dataclass
class Study:
    """Models and images of a report.

    Attributes:
        seconds: of a forward pass of one image through all models.
        fingerprint: {what: hash} of everything that results depend on.
    """

    subjects: list[Subject]
    images: Images
    seconds: float
    fingerprint: dict[str, str]
    seed: int = 0

    def sample(self, most: int) -> list[int]:
        """Return the indices of at most `most` images."""
        return spread(len(self.images.paths), most)

    def labels_of(self, subject: Subject) -> Tensor:
        """Return the class of each image among the model's; ValueError where that is not known."""
        if self.images.labels is None:
            raise ValueError("the images have no labels")
        return torch.from_numpy(labels_of_model(subject.config, self.images.class_names)[self.images.labels])


def make_subject(name: str, source: str, model: Any, processor: Any, images: Images) -> Subject:
    """Return a model with the images that its processor prepares.

    Args:
        model: any that takes pixel_values of images; of a pretraining model its encoder is studied.
        processor: its image processor, or a processor that has one.

    Raises:
        ValueError: a model of other inputs than images.
    """
    model = encoder_of(model)
    if getattr(model, "main_input_name", "pixel_values") != "pixel_values" or hasattr(model.config, "num_frames"):
        raise ValueError(f"{source} is a {type(model).__name__}, which is no model of images")
    processor = getattr(processor, "image_processor", processor)
    mode = image_mode(model)
    parts = []
    for start in range(0, len(images.paths), BATCH):
        opened = [open_image(path, mode) for path in images.paths[start : start + BATCH]]
        parts.append(processor(opened, return_tensors="pt")["pixel_values"])
    pixels = torch.cat(parts)
    mean, std = normalisation(processor, pixels.shape[1])
    dtype = next(model.parameters()).dtype
    return Subject(name, source, model.eval(), pixels.to(dtype), mean, std)


def encoder_of(model: Any) -> Any:
    """Return what is studied of a model: CLIP's vision model, the encoder of a pretraining model, else the model."""
    if hasattr(model, "export"):
        return model.export().to(model.device, model.dtype)
    if hasattr(model, "vision_model"):
        return vision_encoder(model)
    pretrained = ("ForPreTraining", "ForMaskedImageModeling")
    return model.base_model if type(model).__name__.endswith(pretrained) else model


def normalisation(processor: Any, channels: int) -> tuple[list[float], list[float]]:
    """Return the mean and standard deviation of each channel that an image processor normalises with."""
    settings = getattr(processor, "data_config", None)  # timm's
    if settings is not None:
        return list(settings["mean"]), list(settings["std"])
    if not getattr(processor, "do_normalize", True):
        return [0.0] * channels, [1.0] * channels
    mean, std = (
        values * channels if len(values) == 1 else values
        for values in map(channel_values, (processor.image_mean, processor.image_std))
    )
    return mean, std


@torch.no_grad()
def seconds_per_image(subjects: Sequence[Subject]) -> float:
    """Return how long an image of a batch takes in a forward pass through all models, after one to warm up."""
    total = 0.0
    for subject in subjects:
        batch = subject.inputs([index % len(subject.pixel_values) for index in range(BATCH)])
        subject.model(batch[:1])
        times = []
        for _ in range(2):
            started = time.perf_counter()
            subject.model(batch)
            times.append(time.perf_counter() - started)
        total += min(times) / BATCH
    return total


def fingerprint(subjects: Sequence[Subject], images: Images) -> dict[str, str]:
    """Return hashes of the models' weights, configurations and preprocessing, of the images, and of their labels."""
    models, pictures = hashlib.sha256(), hashlib.sha256()
    for subject in subjects:
        config = subject.config.to_dict() if hasattr(subject.config, "to_dict") else {}
        facts = [subject.name, subject.size, subject.mean, subject.std, {**config, "_name_or_path": None}]
        models.update(json.dumps(facts, sort_keys=True, default=str).encode())
        for name, tensor in subject.model.state_dict().items():
            models.update(name.encode())
            models.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    for index, path in enumerate(images.paths):
        pictures.update(images.name(index).encode())
        pictures.update(path.read_bytes())
    labels = json.dumps([images.labels, images.class_names])
    return {
        "models": models.hexdigest()[:16],
        "images": pictures.hexdigest()[:16],
        "labels": hashlib.sha256(labels.encode()).hexdigest()[:16],
    }


def short_names(sources: Sequence[str]) -> list[str]:
    """Return names for titles: the last part of each source, all of it where these are the same, numbered at need."""
    names = [Path(source).resolve().name if Path(source).exists() else source.split("/")[-1] for source in sources]
    if len(set(names)) < len(names):
        names = list(sources)
    if len(set(names)) < len(names):
        names = [f"{name} ({number})" for number, name in enumerate(names, start=1)]
    return names
