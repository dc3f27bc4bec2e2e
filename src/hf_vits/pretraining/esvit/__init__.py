"""EsViT (arXiv 2106.09785)."""

from hf_vits.architecture import pretraining_method

ARCHITECTURES = [pretraining_method(__name__, "EsViT")]
