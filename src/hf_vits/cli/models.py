"""Models by the names that a command line gives them: folders, Hub repositories, published variants."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoImageProcessor,
    AutoProcessor,
    AutoVideoProcessor,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.initialization import no_init_weights
from transformers.utils import IMAGE_PROCESSOR_NAME, PROCESSOR_NAME, VIDEO_PROCESSOR_NAME, cached_file

import hf_vits
from hf_vits import conversion
from hf_vits.conversion.core import variant_fields  # pyright: ignore[reportMissingImports] - of conversion/
from hf_vits.pretraining.self_distillation import SelfDistillationModel

IMAGENET_CLASSES = 1000
# Of models that take waveforms or spectrograms of many lengths: a second of Audiomer's, and of frames 10 ms apart.
SAMPLES, FRAMES = 8192, 100
# How an input is described, from its shape as a whole and from its sizes.
INPUTS = {
    "pixel_values": "{0}",
    "input_values": "{1} samples",
    "input_features": "{1} frames of {2} bins",
    "input_ids": "{1} words",
}
IMAGE_MODES = {1: "L", 3: "RGB"}
# {file of a saved processor: class that reads it}
PROCESSORS = {
    PROCESSOR_NAME: AutoProcessor,
    VIDEO_PROCESSOR_NAME: AutoVideoProcessor,
    IMAGE_PROCESSOR_NAME: AutoImageProcessor,
}


def variant_model(system: str, variant: str) -> PreTrainedModel:
    """A published variant on the meta device, that is without weights."""
    fields = variant_fields(system, variant)
    model_class = conversion.system(system).model_class(fields)
    if model_class.main_input_name == "pixel_values":
        fields.setdefault("num_labels", IMAGENET_CLASSES)
    return empty_model(model_class, model_class.config_class(**fields))


def empty_model(model_class: type[PreTrainedModel], config: PreTrainedConfig) -> PreTrainedModel:
    with torch.device("meta"), no_init_weights():
        return model_class(config).eval().to("meta")  # tables that follow from sizes are made on the CPU


def describe_size(model: PreTrainedModel) -> dict[str, Any]:
    """Parameters, what one input is, and how many classes are told apart (None without a classifier)."""
    (example,) = one_input(encoder_of(model)).values()
    shape = example.shape[1:]
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "input": INPUTS[model.main_input_name].format("x".join(map(str, shape)), *shape),
        "classes": model.config.num_labels if "Classification" in type(model).__name__ else None,
    }


def encoder_of(model: PreTrainedModel) -> PreTrainedModel:
    """What encodes one input: the model, its encoder beside a decoder, or the backbone of a student in training."""
    if model.config.is_encoder_decoder:
        return model.get_encoder()
    return model.student.backbone if isinstance(model, SelfDistillationModel) else model


def one_input(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Arguments for one image (1, channels, height, width), clip (1, frames, channels, height, width), waveform,
    spectrogram or text, on the meta device."""
    config = model.config
    if model.main_input_name == "pixel_values":
        size = config.image_size
        height, width = (size, size) if isinstance(size, int) else size
        frames = () if getattr(config, "num_frames", None) is None else (config.num_frames,)
        return {"pixel_values": torch.empty(1, *frames, config.num_channels, height, width, device="meta")}
    if model.main_input_name == "input_values":
        return {"input_values": torch.empty(1, config.padded_length(SAMPLES), device="meta")}
    if model.main_input_name == "input_features":
        size = (getattr(config, "num_frames", FRAMES), config.num_mel_bins)
        return {"input_features": torch.empty(1, *size, device="meta")}
    return {"input_ids": torch.empty(1, config.max_position_embeddings, dtype=torch.long, device="meta")}


def load_config(source: str) -> PreTrainedConfig:
    """Configuration of a model's folder or Hub repository."""
    check_source(source)
    return AutoConfig.from_pretrained(source)


def check_source(source: str) -> None:
    """Raise, before the Hub is asked, for what is neither a model's folder nor a repository's name."""
    path = Path(source)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise FileNotFoundError(f"{source} has no config.json, so it is no folder of a saved model")
    elif path.is_file():
        raise NotADirectoryError(
            f"{source} is a file; expected the folder of a saved model. `hf-vits convert` makes one of a checkpoint"
        )
    elif source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise FileNotFoundError(f"there is no folder {source}")


def class_of(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """The class that the model was saved from."""
    names = config.architectures or []
    library = hf_vits if config.model_type.startswith("hf_vits_") else transformers
    if len(names) != 1 or not hasattr(library, names[0]):
        raise ValueError(f"config.json names the architecture {names}, which {library.__name__} does not have")
    return getattr(library, names[0])


def load_model(source: str) -> PreTrainedModel:
    """The model of a folder or Hub repository, as the class and in the dtype that it was saved as, in eval mode."""
    return class_of(load_config(source)).from_pretrained(source, dtype="auto").eval()


def load_classifier(source: str) -> tuple[PreTrainedModel, Any]:
    """An image classifier and its image processor; ValueError where the model has no classifier."""
    model_class = class_of(load_config(source))
    if not model_class.__name__.endswith(("ForImageClassification", "ForImageClassificationWithTeacher")):
        raise ValueError(f"{source} is a {model_class.__name__}, which has no classifier for images")
    processor = load_processor(source)
    if processor is None:
        raise FileNotFoundError(f"{source} has no {IMAGE_PROCESSOR_NAME}, so its preprocessing is not known")
    device = torch.accelerator.current_accelerator(check_available=True) or "cpu"
    return load_model(source).to(device), processor


def load_with(auto_processor: type, source: str) -> tuple[PreTrainedModel, Any]:
    """A model, where it computes fastest, and what the Auto class finds to prepare its inputs with."""
    processor = auto_processor.from_pretrained(source)
    device = torch.accelerator.current_accelerator(check_available=True) or "cpu"
    return load_model(source).to(device), processor


def image_mode(model: PreTrainedModel) -> str:
    """PIL's mode of the images that a model takes."""
    num_channels = getattr(model.config, "num_channels", 3)
    if num_channels not in IMAGE_MODES:
        raise ValueError(f"the model takes images of {num_channels} channels; image files have 1 or 3")
    return IMAGE_MODES[num_channels]


def load_processor(source: str) -> Any:
    """What was saved with a model to prepare its inputs; None if nothing was."""
    for name, auto_class in PROCESSORS.items():
        if found := cached_file(source, name, _raise_exceptions_for_missing_entries=False):
            if "feature_extractor_type" in json.loads(Path(found).read_text(encoding="utf-8")):
                auto_class = AutoFeatureExtractor  # its file has the name of an image processor's
            return auto_class.from_pretrained(source)
    return None
