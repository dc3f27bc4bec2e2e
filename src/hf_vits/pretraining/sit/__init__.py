"""SiT (arXiv 2104.03602), in its three generations."""

from hf_vits.architecture import pretraining_method

ARCHITECTURES = [pretraining_method(__name__, "SiT")]
