"""CoaT (arXiv 2104.06399)."""

from hf_vits.architecture import image_architecture

ARCHITECTURES = [image_architecture(__name__, "Coat")]
