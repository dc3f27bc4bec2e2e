"""DVT (arXiv 2105.15075)."""

from hf_vits.architecture import image_architecture

ARCHITECTURES = [image_architecture(__name__, "Dvt")]
