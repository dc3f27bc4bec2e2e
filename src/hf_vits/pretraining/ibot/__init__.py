"""iBOT (arXiv 2111.07832), with the masks of AttMask (arXiv 2203.12719)."""

from hf_vits.architecture import pretraining_method

ARCHITECTURES = [pretraining_method(__name__, "IBOT")]
