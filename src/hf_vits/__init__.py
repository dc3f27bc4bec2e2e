"""Vision, audio and video transformers, and self-supervised methods for them, for the Hugging Face ecosystem.

Importing this package registers every architecture with transformers' Auto classes, so that
`AutoModel.from_pretrained` and its siblings load them. All public names are imported on first use.
"""

import importlib

from .auto import ROWS, register

__version__ = "0.1.0"

_MODULES = {
    "BranchformerForSpeechSeq2Seq": ".models.branchformer.modeling_branchformer_seq2seq",
    "BranchformerSeq2SeqConfig": ".models.branchformer.configuration_branchformer_seq2seq",
    "build_demo": ".app",
    "build_trainer": ".training",
    "convert": ".conversion",
    "export_onnx": ".deployment.onnx",
    "fuse": ".layers.fusion",
    "KnownLabelsPipeline": ".evaluation.known_labels",
    "load": ".conversion",
    "push_space": ".hub",
    "push_to_hub": ".hub",
    "quantize": ".deployment.quantization",
    "save_for_hub": ".hub",
    "train": ".training",
    "VattProcessor": ".processing.vatt",
    "VattTokenizer": ".processing.vatt",
    "VitsCtcTokenizer": ".processing.speech",
    "VitsDetectionProcessor": ".processing.detection",
    "VitsImageProcessor": ".processing.image",
    "VitsSegmentationProcessor": ".processing.segmentation",
    "VitsSpectrogramFeatureExtractor": ".processing.audio",
    "VitsSpeechProcessor": ".processing.speech",
    "VitsVideoProcessor": ".processing.video",
    "VitsWaveformFeatureExtractor": ".processing.audio",
}
for _row in ROWS:
    _MODULES[_row.config] = _row.config_module()
    _MODULES |= dict.fromkeys(_row.models.values(), _row.model_module())

__all__ = ["__version__", *sorted(_MODULES)]


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})


register()
