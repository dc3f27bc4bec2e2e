"""QnA-ViT (arXiv 2112.11435)."""

from hf_vits.architecture import image_architecture

ARCHITECTURES = [image_architecture(__name__, "Qna")]
