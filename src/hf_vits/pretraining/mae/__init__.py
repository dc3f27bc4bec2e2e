"""Masked autoencoder (arXiv 2111.06377)."""

from hf_vits.architecture import pretraining_method

ARCHITECTURES = [pretraining_method(__name__, "MAE")]
