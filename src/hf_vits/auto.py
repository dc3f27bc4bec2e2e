"""Registration of every architecture with transformers' Auto classes.

`import hf_vits` must stay cheap while transformers takes seconds to import what registration touches. So nothing is
imported here: each Auto module of transformers is filled when, and if, it is imported itself (a post-import hook), and
the modelling files are imported when a model of theirs is first asked for.
"""

import importlib
from collections import UserDict
from typing import Any, NamedTuple

import wrapt


class Architecture(NamedTuple):
    """One row of the table.

    Attributes:
        package: folder below `hf_vits.models`.
        name: end of the names of its modules: `configuration_<name>.py`, `modeling_<name>.py`.
        config: class name of its configuration.
        models: {Auto class: class name of the model it builds}.
        image_processor: whether `AutoImageProcessor` serves it.
    """

    package: str
    name: str
    config: str
    models: dict[str, str]
    image_processor: bool = True

    def config_class(self) -> type:
        return getattr(
            importlib.import_module(f".models.{self.package}.configuration_{self.name}", __package__), self.config
        )

    def model_module(self) -> str:
        return f"{__package__}.models.{self.package}.modeling_{self.name}"


def image_architecture(name: str, prefix: str, **more: str) -> Architecture:
    """The row of an image encoder with the usual four classes, and `more` {Auto class: class name}."""
    models = {
        "AutoModel": f"{prefix}Model",
        "AutoModelForImageClassification": f"{prefix}ForImageClassification",
        "AutoBackbone": f"{prefix}Backbone",
    }
    return Architecture(name, name, f"{prefix}Config", models | more)


ARCHITECTURES = (
    image_architecture("vit", "ViT", AutoModelForMaskedImageModeling="ViTForMaskedImageModeling"),
    image_architecture("deit", "DeiT"),
    image_architecture("cct", "Cct"),
    image_architecture("cvt", "Cvt"),
    image_architecture("pvt", "Pvt"),
    image_architecture("swin", "Swin"),
    image_architecture("tnt", "Tnt"),
    image_architecture("t2t", "T2T"),
    image_architecture("coat", "Coat"),
    image_architecture("lg_transformer", "LgTransformer"),
    image_architecture("qna", "Qna"),
    image_architecture("regionvit", "RegionViT"),
    image_architecture("locally_sag", "LocallySag"),
    image_architecture("levit", "Levit"),
    image_architecture("cmt", "Cmt"),
    image_architecture("mvit", "Mvit", AutoModelForVideoClassification="MvitForVideoClassification"),
    Architecture(
        "cct",
        "cct_text",
        "CctTextConfig",
        {"AutoModel": "CctTextModel", "AutoModelForSequenceClassification": "CctForSequenceClassification"},
        image_processor=False,
    ),
)


class Pending(NamedTuple):
    """A class that has not been imported yet."""

    module: str
    name: str

    def load(self) -> type:
        return getattr(importlib.import_module(self.module), self.name)


class LazyClasses(UserDict):
    """A dict whose `Pending` values are imported when they are read."""

    def __getitem__(self, key: Any) -> Any:
        value = self.data[key]
        if isinstance(value, Pending):
            value = self.data[key] = value.load()
        return value


def register_configs(configuration_auto) -> None:
    for architecture in ARCHITECTURES:
        config_class = architecture.config_class()
        configuration_auto.AutoConfig.register(config_class.model_type, config_class, exist_ok=True)


def register_models(modeling_auto) -> None:
    for architecture in ARCHITECTURES:
        config_class = architecture.config_class()
        for auto_class, name in architecture.models.items():
            mapping = getattr(modeling_auto, auto_class)._model_mapping
            # `register` of the Auto class itself would read attributes of the model class, and so import it.
            if not isinstance(mapping._extra_content, LazyClasses):
                mapping._extra_content = LazyClasses(mapping._extra_content)
            mapping.register(config_class, Pending(architecture.model_module(), name), exist_ok=True)


def register_image_processors(image_processing_auto) -> None:
    from .processing.image import VitsImageProcessor

    for architecture in ARCHITECTURES:
        if architecture.image_processor:
            image_processing_auto.AutoImageProcessor.register(
                architecture.config_class(),
                image_processor_classes={"torchvision": VitsImageProcessor},
                exist_ok=True,
            )


def register() -> None:
    """Register with the Auto modules that are imported already, and with the others as soon as they are."""
    for module, action in {
        "configuration_auto": register_configs,
        "modeling_auto": register_models,
        "image_processing_auto": register_image_processors,
    }.items():
        wrapt.register_post_import_hook(action, f"transformers.models.auto.{module}")
