"""LG-Transformer (arXiv 2107.04735)."""

from hf_vits.architecture import image_architecture

ARCHITECTURES = [image_architecture(__name__, "LgTransformer")]
