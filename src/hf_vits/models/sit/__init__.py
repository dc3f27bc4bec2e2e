"""Classifiers of SiT (arXiv 2104.03602); its pretraining is `hf_vits.pretraining.sit`."""

from hf_vits.architecture import IMAGES, Architecture

ARCHITECTURES = [
    Architecture(
        __name__,
        "sit_classifier",
        "SiTClassifierConfig",
        {"AutoModel": "SiTModel", "AutoModelForImageClassification": "SiTForImageClassification"},
        IMAGES,
    )
]
