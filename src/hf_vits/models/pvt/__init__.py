"""PVT (arXiv 2102.12122)."""

from hf_vits.architecture import image_architecture

ARCHITECTURES = [image_architecture(__name__, "Pvt")]
