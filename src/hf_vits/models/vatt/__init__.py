"""VATT (arXiv 2104.11178): encoders of video, sound and text, alone and trained together."""

from hf_vits.architecture import IMAGES, MODALITIES, VIDEOS, WAVEFORMS, Architecture

WORDS = {"AutoTokenizer": MODALITIES["AutoTokenizer"]}

ARCHITECTURES = [
    Architecture(
        __name__,
        "vatt",
        "VattConfig",
        {"AutoModel": "VattModel", "AutoModelForPreTraining": "VattForPreTraining"},
        MODALITIES,
    ),
    Architecture(
        __name__,
        "vatt_audio",
        "VattAudioConfig",
        {"AutoModel": "VattAudioModel", "AutoModelForAudioClassification": "VattForAudioClassification"},
        WAVEFORMS,
    ),
    Architecture(__name__, "vatt_text", "VattTextConfig", {"AutoModel": "VattTextModel"}, WORDS),
    Architecture(
        __name__,
        "vatt_video",
        "VattVideoConfig",
        {
            "AutoModel": "VattVideoModel",
            "AutoModelForImageClassification": "VattForImageClassification",
            "AutoModelForVideoClassification": "VattForVideoClassification",
        },
        IMAGES | VIDEOS,
    ),
]
