"""Early-conv ViT (arXiv 2203.13167): a ViT on the last map of four strided convolutions."""

from hf_vits.architecture import image_architecture

ARCHITECTURES = [image_architecture(__name__, "EarlyConvViT")]
