"""A segmentation head on the patch tokens of an encoder, frozen or trained."""

from hf_vits.architecture import SEGMENTATION, architecture

ARCHITECTURES = [
    architecture(__name__, "DenseProbe", {"AutoModelForSemanticSegmentation": "ForSemanticSegmentation"}, SEGMENTATION)
]
