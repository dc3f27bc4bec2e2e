"""SepTr (arXiv 2203.09581), for spectrograms."""

from hf_vits.architecture import SPECTROGRAMS, audio_architecture

ARCHITECTURES = [audio_architecture(__name__, "SepTr", SPECTROGRAMS)]
