"""A linear classifier on a frozen encoder."""

from hf_vits.architecture import IMAGES, architecture

ARCHITECTURES = [
    architecture(__name__, "LinearProbe", {"AutoModelForImageClassification": "ForImageClassification"}, IMAGES)
]
