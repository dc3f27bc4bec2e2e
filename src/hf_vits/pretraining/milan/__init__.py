"""MILAN (arXiv 2208.06049)."""

from hf_vits.architecture import pretraining_method

ARCHITECTURES = [pretraining_method(__name__, "MILAN")]
