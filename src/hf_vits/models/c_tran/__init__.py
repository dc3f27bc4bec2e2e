"""C-Tran (arXiv 2011.14027): multi-label classification of images, of which some labels may be known."""

from hf_vits.architecture import IMAGES, architecture

ARCHITECTURES = [
    architecture(
        __name__,
        "CTran",
        {"AutoModel": "Model", "AutoModelForImageClassification": "ForImageClassification"},
        IMAGES,
    )
]
