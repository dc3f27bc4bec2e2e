"""CvT (arXiv 2103.15808)."""

from hf_vits.architecture import image_architecture

ARCHITECTURES = [image_architecture(__name__, "Cvt")]
