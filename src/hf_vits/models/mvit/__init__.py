"""MViT and MViTv2 (arXiv 2104.11227, 2112.01526) for images and videos."""

from hf_vits.architecture import IMAGES, VIDEOS, image_architecture

ARCHITECTURES = [
    image_architecture(__name__, "Mvit", IMAGES | VIDEOS, AutoModelForVideoClassification="ForVideoClassification")
]
