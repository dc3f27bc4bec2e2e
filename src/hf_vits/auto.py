"""Registration of every architecture with transformers' Auto classes.

`import hf_vits` must stay cheap while transformers takes seconds to import what registration touches. So nothing is
imported here but the architectures' descriptions: each Auto module of transformers is filled when, and if, it is
imported itself (a post-import hook), and configuration and modelling files are imported when first asked for.
"""

import importlib
import pkgutil
from collections import UserDict
from collections.abc import Iterator
from typing import Any, NamedTuple

import wrapt

from .architecture import Architecture


def gather(family: str) -> tuple[Architecture, ...]:
    """Return what the packages below `hf_vits.<family>` list as `ARCHITECTURES`, in alphabetical order."""
    parent = importlib.import_module(f".{family}", __package__)
    packages = (module.name for module in pkgutil.iter_modules(parent.__path__) if module.ispkg)
    return tuple(
        architecture
        for package in packages
        for architecture in importlib.import_module(f"{parent.__name__}.{package}").ARCHITECTURES
    )


ARCHITECTURES = gather("models")
METHODS = gather("pretraining")
ROWS = (*ARCHITECTURES, *METHODS)
# Self-supervised methods, each a model around a backbone.
PRETRAINING = tuple(row for row in METHODS if "AutoModelForPreTraining" in row.models)


# {Auto class: table of names into which pipelines look instead of into the Auto class}
TABLES = {
    "AutoModelForSpeechSeq2Seq": "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES",
    "AutoModelForObjectDetection": "MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES",
    "AutoModelForSemanticSegmentation": "MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES",
    "AutoModelForImageSegmentation": "MODEL_FOR_IMAGE_SEGMENTATION_MAPPING_NAMES",
}


class LazyClass(NamedTuple):
    """A class by name, not imported yet."""

    module: str
    name: str

    def load(self) -> type:
        """Import the class."""
        return getattr(importlib.import_module(self.module), self.name)


class LazyClassDict(UserDict):
    """A dict whose `LazyClass` values are imported when they are read."""

    def __getitem__(self, key: Any) -> Any:
        value = self.data[key]
        if isinstance(value, LazyClass):
            value = self.data[key] = value.load()
        return value


def make_lazy(mapping) -> None:
    """Let one of transformers' mappings hold classes that are not imported yet."""
    if not isinstance(mapping._extra_content, LazyClassDict):
        mapping._extra_content = LazyClassDict(mapping._extra_content)


def register_configs(configuration_auto) -> None:
    # Not by `AutoConfig.register`, which would import the class: some configurations import AutoConfig themselves.
    mapping = configuration_auto.CONFIG_MAPPING
    make_lazy(mapping)
    for architecture in ROWS:
        config = LazyClass(architecture.config_module(), architecture.config)
        mapping.register(architecture.model_type, config, exist_ok=True)


def register_models(modeling_auto) -> None:
    for architecture in ROWS:
        config_class = architecture.config_class()
        for auto_class, name in architecture.models.items():
            mapping = getattr(modeling_auto, auto_class)._model_mapping
            # Not by `register` of the Auto class, which reads attributes of the model class and so would import it.
            make_lazy(mapping)
            mapping.register(config_class, LazyClass(architecture.model_module(), name), exist_ok=True)
            if auto_class in TABLES:
                getattr(modeling_auto, TABLES[auto_class])[config_class.model_type] = name


def processors(auto_class: str) -> Iterator[tuple[type, type]]:
    """Yield (configuration class, processor class) of each architecture that has a processor for this Auto class."""
    for architecture in ROWS:
        if path := architecture.processors.get(auto_class):
            module, name = path.rsplit(".", 1)
            module = importlib.import_module(f".processing.{module}", __package__)
            yield architecture.config_class(), getattr(module, name)


def register_image_processors(image_processing_auto) -> None:
    for config_class, processor in processors("AutoImageProcessor"):
        image_processing_auto.AutoImageProcessor.register(
            config_class, image_processor_classes={"torchvision": processor}, exist_ok=True
        )


def register_video_processors(video_processing_auto) -> None:
    for config_class, processor in processors("AutoVideoProcessor"):
        video_processing_auto.AutoVideoProcessor.register(config_class, processor, exist_ok=True)


def register_feature_extractors(feature_extraction_auto) -> None:
    for config_class, extractor in processors("AutoFeatureExtractor"):
        feature_extraction_auto.AutoFeatureExtractor.register(config_class, extractor, exist_ok=True)


def register_tokenizers(tokenization_auto) -> None:
    for config_class, tokenizer in processors("AutoTokenizer"):
        tokenization_auto.AutoTokenizer.register(config_class, tokenizer, exist_ok=True)


def register_joint_processors(processing_auto) -> None:
    for config_class, processor in processors("AutoProcessor"):
        processing_auto.AutoProcessor.register(config_class, processor, exist_ok=True)


def register() -> None:
    """Register with the Auto modules that are imported already, and with the others as soon as they are."""
    for module, action in {
        "configuration_auto": register_configs,
        "modeling_auto": register_models,
        "image_processing_auto": register_image_processors,
        "video_processing_auto": register_video_processors,
        "feature_extraction_auto": register_feature_extractors,
        "tokenization_auto": register_tokenizers,
        "processing_auto": register_joint_processors,
    }.items():
        wrapt.register_post_import_hook(action, f"transformers.models.auto.{module}")
