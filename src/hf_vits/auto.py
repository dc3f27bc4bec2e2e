"""Registration of every architecture with transformers' Auto classes.

`import hf_vits` must stay cheap while transformers takes seconds to import what registration touches. So nothing is
imported here: each Auto module of transformers is filled when, and if, it is imported itself (a post-import hook), and
the modelling files are imported when a model of theirs is first asked for.
"""

import importlib
from collections import UserDict
from collections.abc import Iterator
from typing import Any, NamedTuple

import wrapt


class Architecture(NamedTuple):
    """One row of the table.

    Attributes:
        package: folder below `hf_vits.models`, or that of another family.
        name: end of the names of its modules: `configuration_<name>.py`, `modeling_<name>.py`.
        config: class name of its configuration.
        models: {Auto class: class name of the model it builds}.
        processors: {Auto class: "module.Class", below `hf_vits.processing`, of what prepares the model's inputs}.
        family: folder of `hf_vits` that the package is in.
    """

    package: str
    name: str
    config: str
    models: dict[str, str]
    processors: dict[str, str]
    family: str = "models"

    def config_class(self) -> type:
        return getattr(importlib.import_module(self.config_module()), self.config)

    def config_module(self) -> str:
        return f"{__package__}.{self.family}.{self.package}.configuration_{self.name}"

    def model_module(self) -> str:
        return f"{__package__}.{self.family}.{self.package}.modeling_{self.name}"


IMAGES = {"AutoImageProcessor": "image.VitsImageProcessor"}
VIDEOS = {"AutoVideoProcessor": "video.VitsVideoProcessor"}
WAVEFORMS = {"AutoFeatureExtractor": "audio.VitsWaveformFeatureExtractor"}
SPECTROGRAMS = {"AutoFeatureExtractor": "audio.VitsSpectrogramFeatureExtractor"}
SPEECH = {
    **SPECTROGRAMS,
    "AutoTokenizer": "speech.VitsCtcTokenizer",
    "AutoProcessor": "speech.VitsSpeechProcessor",
}


def image_architecture(name: str, prefix: str, **more: str) -> Architecture:
    """The row of an image encoder with the usual four classes, and `more` {Auto class: class name}."""
    models = {
        "AutoModel": f"{prefix}Model",
        "AutoModelForImageClassification": f"{prefix}ForImageClassification",
        "AutoBackbone": f"{prefix}Backbone",
    }
    return Architecture(name, name, f"{prefix}Config", models | more, IMAGES)


def audio_architecture(name: str, prefix: str, processors: dict[str, str], **more: str) -> Architecture:
    """The row of an encoder of sound with a classifier, and `more` {Auto class: class name}."""
    models = {"AutoModel": f"{prefix}Model", "AutoModelForAudioClassification": f"{prefix}ForAudioClassification"}
    return Architecture(name, name, f"{prefix}Config", models | more, processors)


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
    image_architecture("mvit", "Mvit", AutoModelForVideoClassification="MvitForVideoClassification")._replace(
        processors=IMAGES | VIDEOS
    ),
    audio_architecture("audiomer", "Audiomer", WAVEFORMS),
    audio_architecture("septr", "SepTr", SPECTROGRAMS),
    audio_architecture("branchformer", "Branchformer", SPEECH, AutoModelForCTC="BranchformerForCTC"),
    Architecture(
        "branchformer",
        "branchformer_seq2seq",
        "BranchformerSeq2SeqConfig",
        {"AutoModelForSpeechSeq2Seq": "BranchformerForSpeechSeq2Seq"},
        SPEECH,
    ),
    Architecture(
        "vivit",
        "vivit",
        "VivitConfig",
        {"AutoModel": "VivitModel", "AutoModelForVideoClassification": "VivitForVideoClassification"},
        VIDEOS,
    ),
    Architecture(
        "sit",
        "sit_classifier",
        "SiTClassifierConfig",
        {"AutoModel": "SiTModel", "AutoModelForImageClassification": "SiTForImageClassification"},
        IMAGES,
    ),
    Architecture(
        "cct",
        "cct_text",
        "CctTextConfig",
        {"AutoModel": "CctTextModel", "AutoModelForSequenceClassification": "CctForSequenceClassification"},
        {},
    ),
)


def pretraining(name: str, prefix: str) -> Architecture:
    """The row of a self-supervised method."""
    models = {"AutoModelForPreTraining": f"{prefix}ForPreTraining"}
    return Architecture(name, name, f"{prefix}Config", models, IMAGES, family="pretraining")


# Methods of self-supervised learning, each a model around a backbone.
PRETRAINING = (
    pretraining("mae", "MAE"),
    pretraining("dino", "DINO"),
    pretraining("ibot", "IBOT"),
    pretraining("esvit", "EsViT"),
    pretraining("sit", "SiT"),
)

# A classifier on any frozen backbone.
LINEAR_PROBE = Architecture(
    "linear_probe",
    "linear_probe",
    "LinearProbeConfig",
    {"AutoModelForImageClassification": "LinearProbeForImageClassification"},
    IMAGES,
    family="pretraining",
)
ROWS = (*ARCHITECTURES, *PRETRAINING, LINEAR_PROBE)


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
    for architecture in ROWS:
        config_class = architecture.config_class()
        configuration_auto.AutoConfig.register(config_class.model_type, config_class, exist_ok=True)


def register_models(modeling_auto) -> None:
    for architecture in ROWS:
        config_class = architecture.config_class()
        for auto_class, name in architecture.models.items():
            mapping = getattr(modeling_auto, auto_class)._model_mapping
            # `register` of the Auto class itself would read attributes of the model class, and so import it.
            if not isinstance(mapping._extra_content, LazyClasses):
                mapping._extra_content = LazyClasses(mapping._extra_content)
            mapping.register(config_class, Pending(architecture.model_module(), name), exist_ok=True)
            if auto_class == "AutoModelForSpeechSeq2Seq":
                # By this table, not by the Auto class, the pipeline tells models that write texts from those of CTC.
                modeling_auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES[config_class.model_type] = name


def processors(auto_class: str) -> Iterator[tuple[type, type]]:
    """(configuration class, class that prepares the inputs) of each architecture that this Auto class serves."""
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
