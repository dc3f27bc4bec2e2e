"""Vision Transformer (arXiv 2010.11929, 2106.04560)."""

from hf_vits.architecture import image_architecture

ARCHITECTURES = [image_architecture(__name__, "ViT", AutoModelForMaskedImageModeling="ForMaskedImageModeling")]
