"""CMT (arXiv 2107.06263)."""

from hf_vits.architecture import image_architecture

ARCHITECTURES = [image_architecture(__name__, "Cmt")]
