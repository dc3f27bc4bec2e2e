"""Loading of models and processors by the names used on the command line: folder, Hub repository or variant."""

import re
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageClassification,
    AutoProcessor,
    AutoVideoProcessor,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.initialization import no_init_weights
from transformers.utils import IMAGE_PROCESSOR_NAME, PROCESSOR_NAME, VIDEO_PROCESSOR_NAME

import hf_vits
from hf_vits import conversion
from hf_vits.conversion.core import variant_fields  # pyright: ignore[reportMissingImports] - of conversion/
from hf_vits.deployment.inputs import encoder_of, one_input
from hf_vits.files import read_json
from hf_vits.hub.pull import pull, pull_file
from hf_vits.hub.weights import check_complete

IMAGENET_CLASSES = 1000
# Names of classes of models with a score for each class.
CLASSIFIERS = re.compile("Classification|SemanticSegmentation")
# {main input: its description, formatted with the whole shape and each of its sizes}
INPUTS = {
    "pixel_values": "{0}",
    "input_values": "{1} samples",
    "input_features": "{1} frames of {2} bins",
    "input_ids": "{1} words",
    "inputs": "{0}",
}
# {file of a saved processor: class that reads it}
PROCESSORS = {
    PROCESSOR_NAME: AutoProcessor,
    VIDEO_PROCESSOR_NAME: AutoVideoProcessor,
    IMAGE_PROCESSOR_NAME: AutoImageProcessor,
}


def variant_model(system: str, variant: str) -> PreTrainedModel:
    """Build a published variant on the meta device, without weights."""
    fields = variant_fields(system, variant)
    model_class = conversion.system(system).model_class(fields)
    if model_class.main_input_name == "pixel_values":
        fields.setdefault("num_labels", IMAGENET_CLASSES)
    return empty_model(model_class, model_class.config_class(**fields))


def empty_model(model_class: type[PreTrainedModel], config: PreTrainedConfig) -> PreTrainedModel:
    """Build a model on the meta device, in eval mode."""
    with torch.device("meta"), no_init_weights():
        return model_class(config).eval().to("meta")  # buffers computed from sizes are on the CPU


def describe_size(model: PreTrainedModel) -> dict[str, Any]:
    """Return the number of parameters, a description of one input and the number of classes, or None."""
    described = []
    for name, example in one_input(encoder_of(model)).items():
        for part, tensor in example.items() if isinstance(example, dict) else [("", example)]:
            shape = tensor.shape[1:]
            described.append(f"{part} {INPUTS[name].format('x'.join(map(str, shape)), *shape)}".strip())
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "input": " and ".join(described),
        "classes": model.config.num_labels if CLASSIFIERS.search(type(model).__name__) else None,
    }


def load_config(source: str) -> PreTrainedConfig:
    """Load the configuration of a model from a folder or Hub repository."""
    check_source(source)
    return pull(AutoConfig, source)


def check_source(source: str) -> None:
    """Raise an OSError, without asking the Hub, if `source` is no folder of a model and cannot name a repository."""
    path = Path(source)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise FileNotFoundError(f"{source} has no config.json, so it is not the folder of a saved model")
    elif path.is_file():
        raise NotADirectoryError(
            f"{source} is a file; expected the folder of a saved model. `hf-vits convert` converts a checkpoint to one"
        )
    elif source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise FileNotFoundError(f"there is no folder {source}")


def class_of(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """Return the class with which the model was saved."""
    names = config.architectures or []
    library = hf_vits if config.model_type.startswith("hf_vits_") else transformers
    if len(names) != 1 or not hasattr(library, names[0]):
        raise ValueError(f"config.json names the architecture {names}, which {library.__name__} does not have")
    return getattr(library, names[0])


def load_model(source: str) -> PreTrainedModel:
    """Load the model of a folder or Hub repository with the class and dtype it was saved with, in eval mode.

    Raises ValueError if the weights lack tensors that the model needs.
    """
    model_class = class_of(load_config(source))
    loaded: Any = pull(model_class, source, dtype="auto", output_loading_info=True)
    model, info = loaded
    check_complete(source, model_class, info["missing_keys"])
    return model.eval()


def load_classifier(source: str) -> tuple[PreTrainedModel, Any]:
    """Load an image classifier and its image processor; ValueError if the model has no classifier for images."""
    model_class = class_of(load_config(source))
    if not model_class.__name__.endswith(("ForImageClassification", "ForImageClassificationWithTeacher")):
        raise ValueError(f"{source} is a {model_class.__name__}, which has no classifier for images")
    return on_accelerator(load_model(source)), load_image_processor(source)


def load_image_model(source: str) -> tuple[PreTrainedModel, Any]:
    """Load any image model and its image processor, onto the accelerator if there is one.

    A model whose config.json names no class, such as timm's, is loaded as a classifier if it can be one.
    """
    config = load_config(source)
    if config.architectures:
        model = load_model(source)
    else:
        kinds = (AutoModelForImageClassification, AutoModel)
        kind = next((kind for kind in kinds if type(config) in kind._model_mapping), AutoModel)
        model, info = pull(kind, source, dtype="auto", output_loading_info=True)
        check_complete(source, type(model), info["missing_keys"])
        model.eval()
    is_timm = config.model_type == "timm_wrapper"  # whose preprocessing is in config.json
    return on_accelerator(model), pull(AutoImageProcessor, source) if is_timm else load_image_processor(source)


def load_with(auto_processor: type, source: str) -> tuple[PreTrainedModel, Any]:
    """Load a model, onto the accelerator if there is one, and its processor by an Auto class."""
    processor = pull(auto_processor, source)
    return on_accelerator(load_model(source)), processor


def load_image_processor(source: str) -> Any:
    """Load the processor saved with an image model; FileNotFoundError if there is none."""
    processor = load_processor(source)
    if processor is None:
        raise FileNotFoundError(f"{source} has no {IMAGE_PROCESSOR_NAME}, so its preprocessing is not known")
    return processor


def on_accelerator(model: PreTrainedModel) -> PreTrainedModel:
    """Move a model to the accelerator if there is one."""
    return model.to(torch.accelerator.current_accelerator(check_available=True) or "cpu")


def load_processor(source: str) -> Any:
    """Load the processor that was saved with a model; None if there is none."""
    for name, auto_class in PROCESSORS.items():
        if found := pull_file(source, name):
            if "feature_extractor_type" in read_json(Path(found)):
                auto_class = AutoFeatureExtractor  # saved under the file name of image processors
            return pull(auto_class, source)
    return None
