"""T2T-ViT (arXiv 2101.11986)."""

from hf_vits.architecture import image_architecture

ARCHITECTURES = [image_architecture(__name__, "T2T")]
