"""Valid batches for tiny models: what their main input is, follows from class and configuration."""

import importlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

import tests.models
import tests.pretraining
from hf_vits.auto import ROWS
from hf_vits.models.c_tran.configuration_c_tran import INCEPTION_SIDE
from tests.support.forms import BACKBONE, FRAMES, SAMPLES, WORDS, PretrainingForm, gather

LARGEST_SIDE = 64  # of the images of a batch, where a configuration is for larger ones and any size works


@dataclass(frozen=True)
class Kind:
    """A model class and the fields of a tiny configuration of it.

    Attributes:
        name: of the architecture and the class.
        inputs: what batches of a self-supervised method have, see `tests.support.forms.PretrainingForm`; else ().
        main_input: name of the main input, or "images" for images of a model whose configuration is for clips.
    """

    name: str
    model_class: type
    fields: dict[str, Any]
    inputs: tuple[str, ...] = ()
    main_input: str = ""


def kinds() -> Iterator[Kind]:
    """Yield every model class with every tiny configuration that the forms of its architecture have for it.

    Those that take several modalities at once are left out.
    """
    folders = gather(tests.models, "FORMS") | gather(tests.pretraining, "FORMS")
    clips = gather(tests.models, "TINY_CLIPS")
    # They have no forms, as they are no architectures of their own.
    others = {"linear_probe": [{"backbone_config": BACKBONE}, {"backbone_config": BACKBONE, "num_layers": 2}]}
    others["dense_probe"] = [{"backbone_config": BACKBONE}, {"backbone_config": BACKBONE, "head": "fcn"}]
    for row in ROWS:
        module = importlib.import_module(row.model_module())
        forms = [form for forms in folders.values() for form in forms if form.architecture == row.name]
        for auto_class, name in row.models.items():
            model_class = getattr(module, name)
            is_video = "Video" in auto_class
            for form in forms:
                allowed = getattr(form, "auto_classes", ()) or row.models
                method = form.inputs if isinstance(form, PretrainingForm) else ()
                main_input = model_class.main_input_name if method else form.inputs or model_class.main_input_name
                if auto_class in allowed and main_input not in ("modalities", "inputs"):
                    yield Kind(f"{row.name}/{name}", model_class, form.config, method, main_input)
            if is_video and row.name in clips:
                yield Kind(f"{row.name}/{name}", model_class, clips[row.name], main_input="pixel_values")
            for fields in others.get(row.name, ()):
                yield Kind(f"{row.name}/{name}", model_class, fields, main_input="pixel_values")


def batch(kind: Kind, config, size: int = 2) -> dict[str, torch.Tensor]:
    """Return a valid batch of a model, of random numbers, with labels where the model has a loss."""
    if kind.inputs:
        return pretraining_batch(kind.inputs, config, size)
    model_class, name = kind.model_class, kind.main_input
    if name in ("pixel_values", "images"):
        frames = getattr(config, "num_frames", None) if name == "pixel_values" else None
        shape = [size, *([] if frames is None else [frames]), config.num_channels, *sides(config)]
        inputs = {"pixel_values": torch.rand(shape)}
    elif name == "input_ids":
        words = min(WORDS, config.max_position_embeddings)
        inputs = {name: torch.randint(config.vocab_size, (size, words))}
    elif name == "input_values":
        inputs = {name: torch.randn(size, config.padded_length(SAMPLES))}
    else:
        channels = getattr(config, "num_channels", 1)
        shape = [*([] if channels == 1 else [channels]), getattr(config, "num_frames", FRAMES), config.num_mel_bins]
        inputs = {name: torch.randn(size, *shape)}
    return inputs | labels(model_class, config, size)


def labels(model_class: type, config, size: int) -> dict[str, torch.Tensor]:
    """Return the labels of a batch: classes, values or texts."""
    name = model_class.__name__
    if name.endswith(("ForCTC", "ForSpeechSeq2Seq")):
        return {"labels": torch.randint(1, max(2, config.vocab_size), (size, 3)).clamp(max=config.vocab_size - 1)}
    if name.endswith("ForSemanticSegmentation"):
        return {"labels": torch.randint(config.num_labels, (size, *sides(config)))}
    if "Classification" not in name or not config.num_labels:
        return {}
    if getattr(config, "head_sizes", None) is not None:
        return {"labels": torch.stack([torch.randint(n, (size,)) for n in config.head_sizes], 1)}
    if config.problem_type in ("regression", "multi_label_classification"):
        return {"labels": torch.rand(size, config.num_labels)}
    if config.problem_type is None and config.num_labels == 1:
        return {"labels": torch.rand(size)}
    return {"labels": torch.randint(config.num_labels, (size,))}


def sides(config, part: float = 1.0) -> tuple[int, int]:
    """Return height and width of the images that a configuration is for, or `LARGEST_SIDE`."""
    size = config.image_size
    height, width = (size, size) if isinstance(size, int) else size
    largest = INCEPTION_SIDE if getattr(config, "backbone", None) == "inception_v3" else LARGEST_SIDE
    return tuple(max(1, int(part * min(side, largest))) for side in (height, width))


def pretraining_batch(inputs: tuple[str, ...], config, size: int) -> dict[str, torch.Tensor]:
    """Return a batch of a self-supervised method with the named parts."""
    backbone = getattr(config, "backbone_config", config)
    height, width = sides(backbone)
    channels, batch = backbone.num_channels, {}
    patch = backbone.patch_size if isinstance(backbone.patch_size, int) else backbone.patch_size[0]
    if hasattr(backbone, "depths"):  # stages pad what is left over
        rows, columns = (math.ceil(side / (patch * 2 ** (len(backbone.depths) - 1))) for side in (height, width))
    else:
        rows, columns = height // patch, width // patch
    for name in inputs:
        if name == "images":
            batch["pixel_values"] = torch.rand(size, channels, height, width)
        elif name == "views":
            batch["pixel_values"] = torch.rand(size, 2, channels, height, width)
        elif name == "local_views":
            batch["local_pixel_values"] = torch.rand(size, 3, channels, *sides(backbone, 0.6))
        elif name == "overlaps":
            boxes = torch.tensor([0.0, 0.0, width / 2, height / 2]).repeat(size, 2, 5, 1)
            part = torch.where(torch.arange(5)[:, None] < 2, 1.0, 0.6)
            batch |= {"global_boxes": boxes, "crop_boxes": (boxes * part).transpose(1, 2)}
        elif name == "view_boxes":
            batch[name] = torch.tensor([[0.0, 0.0, 0.8, 0.8], [0.3, 0.2, 1.0, 1.0]]).repeat(size, 1, 1)
        elif name == "priors":
            batch[name] = torch.rand(size, 2, config.num_regions, rows, columns)
        elif name == "patch_masks":
            batch["bool_masked_pos"] = torch.rand(size, 2, rows * columns) < 0.3
        elif name == "corrupted_views":
            batch["corrupted_pixel_values"] = torch.rand(size, 2, channels, height, width)
            batch["corruption_mask"] = torch.rand(size, 2, height, width) > 0.5
        elif name == "rotations":
            batch["rotation_labels"] = torch.randint(4, (size, 2))
    return batch
