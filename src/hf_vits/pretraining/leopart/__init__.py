"""Leopart (arXiv 2204.13101)."""

from hf_vits.architecture import pretraining_method

ARCHITECTURES = [pretraining_method(__name__, "Leopart")]
