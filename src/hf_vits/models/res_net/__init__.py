"""ResNet (arXiv 1512.03385) whose stages can keep their resolution."""

from hf_vits.architecture import image_architecture

ARCHITECTURES = [image_architecture(__name__, "ResNet")]
