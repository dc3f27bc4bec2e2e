"""LeViT (arXiv 2104.01136)."""

from hf_vits.architecture import image_architecture

ARCHITECTURES = [image_architecture(__name__, "Levit")]
