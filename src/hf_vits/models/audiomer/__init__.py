"""Audiomer (arXiv 2109.10252), for waveforms."""

from hf_vits.architecture import WAVEFORMS, audio_architecture

ARCHITECTURES = [audio_architecture(__name__, "Audiomer", WAVEFORMS)]
