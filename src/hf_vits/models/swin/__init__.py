"""Swin Transformer (arXiv 2103.14030)."""

from hf_vits.architecture import image_architecture

ARCHITECTURES = [image_architecture(__name__, "Swin")]
