"""HiP, the Hierarchical Perceiver, and Perceiver IO (arXiv 2202.10890), for any dict of modalities."""

from hf_vits.architecture import IMAGES, WAVEFORMS, architecture

ARCHITECTURES = [
    architecture(
        __name__,
        "Hip",
        {
            "AutoModel": "Model",
            "AutoModelForPreTraining": "ForPreTraining",
            "AutoModelForImageClassification": "ForImageClassification",
            "AutoModelForAudioClassification": "ForAudioClassification",
        },
        IMAGES | WAVEFORMS,
    )
]
