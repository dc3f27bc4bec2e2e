"""Transformer in Transformer (arXiv 2103.00112)."""

from hf_vits.architecture import image_architecture

ARCHITECTURES = [image_architecture(__name__, "Tnt")]
