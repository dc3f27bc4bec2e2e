"""Compact Transformers (arXiv 2104.05704): ViT-Lite, CVT and CCT, for images and for text."""

from hf_vits.architecture import Architecture, image_architecture

ARCHITECTURES = [
    image_architecture(__name__, "Cct"),
    Architecture(
        __name__,
        "cct_text",
        "CctTextConfig",
        {"AutoModel": "CctTextModel", "AutoModelForSequenceClassification": "CctForSequenceClassification"},
        {},
    ),
]
