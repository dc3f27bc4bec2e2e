"""Masked auto-encoding of the pixels of images with HiP (arXiv 2202.10890)."""

from hf_vits.architecture import pretraining_method

ARCHITECTURES = [pretraining_method(__name__, "HipMAE")]
