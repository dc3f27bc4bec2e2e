"""DeiT and DeiT III (arXiv 2012.12877, 2204.07118, 2203.09795)."""

from hf_vits.architecture import image_architecture

ARCHITECTURES = [image_architecture(__name__, "DeiT")]
