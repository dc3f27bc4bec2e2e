"""Locally Shifted Attention With Early Global Integration (arXiv 2112.05080)."""

from hf_vits.architecture import image_architecture

ARCHITECTURES = [image_architecture(__name__, "LocallySag")]
