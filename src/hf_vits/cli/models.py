"""Models by the names that a command line gives them: folders, Hub repositories, published variants."""

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoImageProcessor, PreTrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights
from transformers.utils import IMAGE_PROCESSOR_NAME, cached_file

import hf_vits
from hf_vits import conversion
from hf_vits.conversion.core import variant_fields

IMAGENET_CLASSES = 1000
IMAGE_MODES = {1: "L", 3: "RGB"}


def variant_model(system: str, variant: str) -> PreTrainedModel:
    """A published variant on the meta device, that is without weights."""
    fields = variant_fields(system, variant)
    model_class = conversion.system(system).model_class(fields)
    if model_class.main_input_name == "pixel_values":
        fields.setdefault("num_labels", IMAGENET_CLASSES)
    return empty_model(model_class, model_class.config_class(**fields))


def empty_model(model_class: type[PreTrainedModel], config: PreTrainedConfig) -> PreTrainedModel:
    with torch.device("meta"), no_init_weights():
        return model_class(config).eval()


def describe_size(model: PreTrainedModel) -> dict[str, Any]:
    """Parameters, what one input is, and how many classes are told apart (None without a classifier)."""
    (example,) = one_input(model).values()
    shape = example.shape[1:]
    is_image = model.main_input_name == "pixel_values"
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "input": "x".join(map(str, shape)) if is_image else f"{shape[0]} words",
        "classes": model.config.num_labels if "Classification" in type(model).__name__ else None,
    }


def one_input(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Arguments for one image (1, channels, height, width), or one text (1, words), on the meta device."""
    config = model.config
    if model.main_input_name == "pixel_values":
        size = config.image_size
        height, width = (size, size) if isinstance(size, int) else size
        return {"pixel_values": torch.empty(1, config.num_channels, height, width, device="meta")}
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


def image_mode(model: PreTrainedModel) -> str:
    """PIL's mode of the images that a model takes."""
    num_channels = getattr(model.config, "num_channels", 3)
    if num_channels not in IMAGE_MODES:
        raise ValueError(f"the model takes images of {num_channels} channels; image files have 1 or 3")
    return IMAGE_MODES[num_channels]


def load_processor(source: str) -> Any | None:
    """The image processor saved with a model; None if there is none."""
    found = cached_file(source, IMAGE_PROCESSOR_NAME, _raise_exceptions_for_missing_entries=False)
    return AutoImageProcessor.from_pretrained(source) if found else None
