"""VATT (arXiv 2104.11178): encoders of video, sound and text, alone and trained together."""

from hf_vits.architecture import IMAGES, VIDEOS, WAVEFORMS, Architecture

ARCHITECTURES = [
    Architecture(
        __name__,
        "vatt",
        "VattConfig",
        {"AutoModel": "VattModel", "AutoModelForPreTraining": "VattForPreTraining"},
        {},
    ),
    Architecture(
        __name__,
        "vatt_audio",
        "VattAudioConfig",
        {"AutoModel": "VattAudioModel", "AutoModelForAudioClassification": "VattForAudioClassification"},
        WAVEFORMS,
    ),
    Architecture(__name__, "vatt_text", "VattTextConfig", {"AutoModel": "VattTextModel"}, {}),
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
