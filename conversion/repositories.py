"""Models straight from a file, a folder or a Hub repository, whichever library saved it."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from PIL.Image import Resampling
from transformers import AutoConfig, AutoImageProcessor, AutoVideoProcessor, PreTrainedModel
from transformers.utils import IMAGE_PROCESSOR_NAME, VIDEO_PROCESSOR_NAME, cached_file

from .checkpoint import load_checkpoint, unwrap
from .converting import convert
from .core import SYSTEMS, from_transformers, layouts_of, processor, reader
from .search import find, nearest

FILE_IN_REPOSITORY = re.compile(r"([\w.-]+/[\w.-]+):(.+)")
PROCESSORS = {VIDEO_PROCESSOR_NAME: AutoVideoProcessor, IMAGE_PROCESSOR_NAME: AutoImageProcessor}
# Names under which timm saves weights, the first that exists being read.
TIMM_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def load(source: str | Path, system: str | None = None, variant: str | None = None, **overrides):
    """Return a model of ours and its processor, from weights of the original, timm, torchvision or transformers.

    Args:
        source: a file; `user/repository:file` on the Hub; or a folder or repository that timm or transformers saved,
            whose configuration then gives sizes, preprocessing and names of the classes.
        system: name of a system; None to find it by the keys.
        variant: published variant; None for the nearest one.
        overrides: configuration fields, as for `convert`.

    Returns:
        (model in eval mode, processor or None).

    Raises:
        ValueError: the weights are of no model of ours, or of several; the message says what they are.
        OSError: there is no such file, folder or repository.
    """
    source = str(source)
    if (named := FILE_IN_REPOSITORY.fullmatch(source)) and not Path(source).exists():
        return from_file(Path(hf_hub_download(*named.groups())), system, variant, overrides)
    if Path(source).is_file():
        return from_file(Path(source), system, variant, overrides)
    if not Path(source).is_dir() and not re.fullmatch(r"[\w.-]+/[\w.-]+", source):
        raise FileNotFoundError(
            f"no checkpoint file at {source}; expected a file, folder, user/repo or user/repo:file"
        )
    config = json.loads(file_of(source, "config.json").read_text(encoding="utf-8"))
    if "architecture" in config:
        return from_timm(source, config, system, variant, overrides)
    return from_library(source, system, overrides)


def file_of(source: str, name: str) -> Path:
    """Return the path of a file in a folder or, downloaded, in a Hub repository; an OSError if it is missing."""
    if Path(source).is_dir():
        if not Path(source, name).is_file():
            raise FileNotFoundError(f"{source} has no {name}: it is no folder that timm or transformers saved")
        return Path(source, name)
    return Path(hf_hub_download(source, name))


def from_file(path: Path, system: str | None, variant: str | None, overrides: dict):
    """Return model and processor of a file of weights."""
    tensors = load_checkpoint(path)
    system = system or find(tensors)[0]
    model = convert(system, variant, tensors, **overrides)
    return model, processor(system, variant or nearest(system, tensors, overrides)[0], model)


def from_timm(source: str, config: dict, system: str | None, variant: str | None, overrides: dict):
    """Return model and processor of what timm's push_to_hub or save_for_hf wrote."""
    architecture = config["architecture"]
    for name in TIMM_WEIGHTS:
        try:
            path = file_of(source, name)
            break
        except (FileNotFoundError, EntryNotFoundError):
            continue
    else:
        raise FileNotFoundError(f"{source} has none of timm's files of weights: {', '.join(TIMM_WEIGHTS)}")
    tensors = load_checkpoint(path)
    system = system or system_of_timm(architecture, tensors)
    known = {name for layout in layouts_of(system) if layout.library == "timm" for name in layout.VARIANTS}
    variant = variant or (architecture if architecture in known | reader(system, {}).VARIANTS.keys() else None)
    options = dict(overrides)
    if isinstance(heads := (config.get("model_args") or {}).get("num_heads"), int):
        options.setdefault("num_attention_heads", heads)
    model = convert(system, variant, tensors, **options)
    set_labels(model, config)
    return model, timm_processor(config.get("pretrained_cfg") or {})


def system_of_timm(architecture: str, tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the system of one of timm's architectures; ValueError, with the reason, if ours has no such model."""
    tensors = unwrap(tensors)
    for system in SYSTEMS:
        layouts = [layout for layout in layouts_of(system) if layout.library == "timm"]
        known = any(architecture in layout.VARIANTS for layout in layouts)
        if known or (layouts and architecture in reader(system, {}).VARIANTS):
            reader(system, tensors)  # raises for what is refused
            return system
    try:
        return find(tensors)[0]
    except ValueError as error:
        raise ValueError(f"timm's {architecture}: {error}") from error


def set_labels(model: PreTrainedModel, config: dict) -> None:
    """Give the model the names of its classes, descriptions where there are any."""
    names, descriptions = config.get("label_names"), config.get("label_descriptions")
    if not names or len(names) != model.config.num_labels:
        return
    if isinstance(descriptions, dict):
        names = [descriptions.get(name, name) for name in names]
    model.config.id2label = dict(enumerate(names))
    model.config.label2id = {name: index for index, name in enumerate(names)}


def timm_processor(config: dict):
    """Return the preprocessing of timm's evaluation for a `pretrained_cfg`; None where it does not say any."""
    if "input_size" not in config:
        return None
    from hf_vits.processing.image import VitsImageProcessor

    _, height, width = config["input_size"]
    ratio = config.get("crop_pct") or 0.875
    resized = [int(side / ratio) for side in (height, width)]
    squash = config.get("crop_mode", "center") == "squash" or height != width
    size = {"height": resized[0], "width": resized[1]} if squash else {"shortest_edge": min(resized)}
    return VitsImageProcessor(
        size=size,
        crop_size={"height": height, "width": width},
        do_center_crop=True,
        resample=getattr(Resampling, config.get("interpolation", "bicubic").upper(), Resampling.BICUBIC),
        image_mean=list(config.get("mean", (0.485, 0.456, 0.406))),
        image_std=list(config.get("std", (0.229, 0.224, 0.225))),
    )


def from_library(source: str, system: str | None, overrides: dict):
    """Return model and processor of what transformers or hf_vits saved with save_pretrained."""
    config: Any = AutoConfig.from_pretrained(source)
    ours = config.model_type.startswith("hf_vits_")
    if overrides:
        raise ValueError(
            f"{source} has a configuration of its own, which leaves no field to give: {sorted(overrides)}"
        )
    names = config.architectures or []
    import hf_vits

    library = hf_vits if ours else transformers
    if len(names) != 1 or not hasattr(library, names[0]):
        raise ValueError(f"config.json names the architecture {names}, which {library.__name__} does not have")
    model, info = getattr(library, names[0]).from_pretrained(source, dtype="auto", output_loading_info=True)
    check_whole(model, info["missing_keys"], source)
    model = model.eval() if ours else from_transformers(model.eval())
    if system is not None and model.config.model_type.removeprefix("hf_vits_") != system:
        raise ValueError(f"{source} holds a {config.model_type!r}, not a {system}")
    return model, saved_processor(source)


def check_whole(model: PreTrainedModel, missing: Iterable[str], source: str) -> None:
    """Raise ValueError if a saved model lacks weights, which would be random; a pooler alone is taken out instead.

    transformers' `ViTModel` has a pooler unless told otherwise; DINO and other encoders are saved without one.
    """
    lacking = sorted(missing)
    if lacking and all(key.startswith("pooler.") for key in lacking):
        model.pooler = None
    elif lacking:
        raise ValueError(f"{source} lacks {len(lacking)} weights of {type(model).__name__}: {', '.join(lacking[:4])}")


def saved_processor(source: str):
    """Return the image or video processor that was saved with a model; None if there is none."""
    for name, auto_class in {
        VIDEO_PROCESSOR_NAME: AutoVideoProcessor,
        IMAGE_PROCESSOR_NAME: AutoImageProcessor,
    }.items():
        if cached_file(source, name, _raise_exceptions_for_missing_entries=False):
            return auto_class.from_pretrained(source)
    return None
