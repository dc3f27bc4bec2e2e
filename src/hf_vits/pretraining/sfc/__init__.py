"""Fine-grained correspondence of SFC (arXiv 2207.10456)."""

from hf_vits.architecture import pretraining_method

ARCHITECTURES = [pretraining_method(__name__, "SFC")]
