"""SPAN, spatial prior attention (arXiv 2209.03745)."""

from hf_vits.architecture import pretraining_method

ARCHITECTURES = [pretraining_method(__name__, "SPAN")]
