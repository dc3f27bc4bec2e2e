"""DINO (arXiv 2104.14294)."""

from hf_vits.architecture import pretraining_method

ARCHITECTURES = [pretraining_method(__name__, "DINO")]
