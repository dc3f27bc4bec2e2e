"""ViViT (arXiv 2103.15691), for videos."""

from hf_vits.architecture import VIDEOS, architecture

ARCHITECTURES = [
    architecture(
        __name__,
        "Vivit",
        {"AutoModel": "Model", "AutoModelForVideoClassification": "ForVideoClassification"},
        VIDEOS,
    )
]
