"""Configuration of VATT's audio encoders (google-research/vatt, modeling/backbones/audio: autx1d.py, autx2d.py)."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from .configuration_vatt_encoder import VattEncoderConfig


@strict
class VattAudioConfig(VattEncoderConfig):
    """Configuration of an encoder of waveforms (WaT) or spectrograms (SpT); the defaults are WaT-Base.

    The fields of `VattEncoderConfig`, and:

    Args:
        input_type: "waveform" or "spectrogram".
        patch_size: samples of a token, or (frames, mel bins) of a token of a spectrogram. What fills no patch at the
            end is left out.
        num_samples: length of a waveform. The position table has this length and is resized to other inputs.
        num_frames, num_mel_bins: size of a spectrogram, and of its position tables.
        classifier_dropout_prob: dropout rate of the classifier's input.
    """

    model_type = "hf_vits_vatt_audio"
    size_fields = (*VattEncoderConfig.size_fields, "patch_size", "num_samples", "num_frames", "num_mel_bins")
    rate_fields = (*VattEncoderConfig.rate_fields, "classifier_dropout_prob")

    input_type: Literal["waveform", "spectrogram"] = "waveform"
    patch_size: int | list[int] | tuple[int, int] = 128
    num_samples: int = 153_600
    num_frames: int = 150
    num_mel_bins: int = 80
    classifier_dropout_prob: float | int = 0.0

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of tokens of a waveform, or along time and frequency of a spectrogram."""
        if isinstance(self.patch_size, int):
            return (self.num_samples // self.patch_size,)
        return self.num_frames // self.patch_size[0], self.num_mel_bins // self.patch_size[1]

    def padded_length(self, num_samples: int) -> int:
        """Return the shortest number of samples, at least `num_samples`, that whole patches fill."""
        assert isinstance(self.patch_size, int)
        return -(-max(num_samples, 1) // self.patch_size) * self.patch_size

    def check(self) -> None:
        super().check()
        is_pair = not isinstance(self.patch_size, int)
        if is_pair != (self.input_type == "spectrogram") or (is_pair and len(self.patch_size) != 2):
            wanted = "one number of samples" if self.input_type == "waveform" else "(frames, mel bins)"
            raise ValueError(
                f'input_type="{self.input_type}" needs a patch_size that is {wanted}, got patch_size={self.patch_size}'
            )
        if 0 in self.grid:
            raise ValueError(
                f"an input must hold at least one patch of patch_size={self.patch_size}, got num_samples="
                f"{self.num_samples}, num_frames={self.num_frames} and num_mel_bins={self.num_mel_bins}"
            )


__all__ = ["VattAudioConfig"]
