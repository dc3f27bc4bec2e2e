"""How the package of an architecture describes itself, without importing torch or transformers.

The `__init__.py` of every folder below `models/` and `pretraining/` holds a list `ARCHITECTURES` of what is made here,
and `hf_vits.auto` registers all of them with transformers' Auto classes.
"""

import importlib
from typing import NamedTuple

IMAGES = {"AutoImageProcessor": "image.VitsImageProcessor"}
DETECTION = {"AutoImageProcessor": "detection.VitsDetectionProcessor"}
SEGMENTATION = {"AutoImageProcessor": "segmentation.VitsSegmentationProcessor"}
VIDEOS = {"AutoVideoProcessor": "video.VitsVideoProcessor"}
WAVEFORMS = {"AutoFeatureExtractor": "audio.VitsWaveformFeatureExtractor"}
SPECTROGRAMS = {"AutoFeatureExtractor": "audio.VitsSpectrogramFeatureExtractor"}
SPEECH = {
    **SPECTROGRAMS,
    "AutoTokenizer": "speech.VitsCtcTokenizer",
    "AutoProcessor": "speech.VitsSpeechProcessor",
}
MODALITIES = {
    **VIDEOS,
    **WAVEFORMS,
    "AutoTokenizer": "vatt.VattTokenizer",
    "AutoProcessor": "vatt.VattProcessor",
}


class Architecture(NamedTuple):
    """One configuration class and the model classes that it configures.

    Attributes:
        package: dotted name of its package, the `__name__` of the `__init__.py`.
        name: end of the names of its modules: `configuration_<name>.py`, `modeling_<name>.py`; its `model_type` is
            `hf_vits_<name>`.
        config: class name of its configuration.
        models: {Auto class: class name of the model it builds}.
        processors: {Auto class: "module.Class", below `hf_vits.processing`, of what prepares the model's inputs}.
    """

    package: str
    name: str
    config: str
    models: dict[str, str]
    processors: dict[str, str]

    @property
    def model_type(self) -> str:
        """Return the `model_type` of its configuration."""
        return f"hf_vits_{self.name}"

    @property
    def folder(self) -> str:
        """Return the name of its package's folder, which several architectures may share."""
        return self.package.rpartition(".")[2]

    def config_module(self) -> str:
        """Return the dotted name of the module with the configuration."""
        return f"{self.package}.configuration_{self.name}"

    def model_module(self) -> str:
        """Return the dotted name of the module with the models."""
        return f"{self.package}.modeling_{self.name}"

    def config_class(self) -> type:
        """Import the configuration class."""
        return getattr(importlib.import_module(self.config_module()), self.config)


def architecture(
    package: str,
    prefix: str,
    models: dict[str, str],
    processors: dict[str, str],
    name: str | None = None,
) -> Architecture:
    """Describe an architecture whose classes begin with `prefix`.

    Args:
        package: the `__name__` of its package.
        models: {Auto class: end of the class name of the model it builds, such as "ForCTC"}.
        processors: {Auto class: what prepares the inputs}, one of the constants of this module or several joined.
        name: end of the names of its modules, if not the folder's name.
    """
    classes = {auto_class: f"{prefix}{ending}" for auto_class, ending in models.items()}
    return Architecture(package, name or package.rpartition(".")[2], f"{prefix}Config", classes, processors)


def image_architecture(package: str, prefix: str, processors: dict[str, str] = IMAGES, **models: str) -> Architecture:
    """Describe an image encoder: base model, classifier, backbone, and further `models` {Auto class: ending}."""
    usual = {
        "AutoModel": "Model",
        "AutoModelForImageClassification": "ForImageClassification",
        "AutoBackbone": "Backbone",
    }
    return architecture(package, prefix, usual | models, processors)


def audio_architecture(package: str, prefix: str, processors: dict[str, str], **models: str) -> Architecture:
    """Describe an audio encoder with base model and classifier, and further `models` {Auto class: ending}."""
    usual = {"AutoModel": "Model", "AutoModelForAudioClassification": "ForAudioClassification"}
    return architecture(package, prefix, usual | models, processors)


def pretraining_method(package: str, prefix: str) -> Architecture:
    """Describe a method of self-supervised learning: a model around a backbone."""
    return architecture(package, prefix, {"AutoModelForPreTraining": "ForPreTraining"}, IMAGES)
