"""RegionViT (arXiv 2106.02689)."""

from hf_vits.architecture import image_architecture

ARCHITECTURES = [image_architecture(__name__, "RegionViT")]
