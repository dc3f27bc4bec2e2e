"""VATT's encoders of waveforms (WaT) and spectrograms (SpT), and classifiers of sounds.

Akbari et al., arXiv 2104.11178, sections 3.1 and 4; google-research/vatt, modeling/backbones/audio: autx1d.py,
autx2d.py.
"""

import math

import torch
from torch import nn
from transformers import initialization as init
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from ...modeling import ClassifierOutput, EncoderOutput, only_pooled_is_read
from .configuration_vatt_audio import VattAudioConfig
from .encoder_vatt import VattEmbeddings, VattEncoder, VattForClassification, VattModalityModel, VattPreTrainedModel

# {type of input: (name of the argument, its axes)}
ARGUMENTS = {
    "waveform": ("input_values", ("samples",)),
    "spectrogram": ("input_features", ("frames", "num_mel_bins")),
}


def check_audio(inputs: torch.Tensor | None, other: torch.Tensor | None, config: VattAudioConfig) -> None:
    """Raise ValueError or TypeError unless the input is what the model is made for, and the only one.

    Args:
        inputs: what was given as the argument of the model's type of input.
        other: what was given as the other argument.
    """
    name, axes = ARGUMENTS[config.input_type]
    expected = f"{name}: (batch, {', '.join(axes)})"
    if inputs is None or other is not None:
        found = "both input_values and input_features" if inputs is not None else "no " + name
        raise ValueError(f"You have to specify {expected} and nothing else for {config.input_type}s, got {found}")
    sides = config.patch_size if isinstance(config.patch_size, (list, tuple)) else (config.patch_size,)
    if inputs.ndim != 1 + len(axes) or any(size < side for size, side in zip(inputs.shape[1:], sides, strict=True)):
        raise ValueError(
            f"You have to specify {expected}, at least {' x '.join(map(str, sides))} long, got shape "
            f"{tuple(inputs.shape)}"
        )
    if not inputs.is_floating_point():
        raise TypeError(f"{name} must be floating point, waveforms in [-1, 1], got {inputs.dtype}")


class VattWaveformEmbedding(nn.Module):
    """Embedding of sections of a waveform; samples at the end that fill none are left out."""

    def __init__(self, config: VattAudioConfig):
        super().__init__()
        assert isinstance(config.patch_size, int)
        self.projection = nn.Conv1d(1, config.hidden_size, config.patch_size, stride=config.patch_size)

    def forward(self, input_values: torch.Tensor) -> torch.Tensor:
        """Map (batch, samples) to (batch, sections, hidden_size)."""
        return self.projection(input_values[:, None].to(self.projection.weight.dtype)).transpose(1, 2)


class VattSpectrogramEmbedding(nn.Module):
    """Embedding of patches of a spectrogram; frames and bins at the end that fill none are left out."""

    def __init__(self, config: VattAudioConfig):
        super().__init__()
        assert not isinstance(config.patch_size, int)
        size = (config.patch_size[0], config.patch_size[1])
        self.projection = nn.Conv2d(1, config.hidden_size, size, stride=size)

    def forward(self, input_features: torch.Tensor) -> torch.Tensor:
        """Map (batch, frames, mel bins) to (batch, rows in time, rows in frequency, hidden_size)."""
        return self.projection(input_features[:, None].to(self.projection.weight.dtype)).movedim(1, -1)


class VattAudioPreTrainedModel(VattPreTrainedModel):
    """Base class of the models of sound; `main_input_name` follows from `config.input_type`."""

    config_class = VattAudioConfig
    main_input_name = "input_values"
    input_modalities = ("audio",)

    def __init__(self, config: VattAudioConfig, *arguments, **options):
        super().__init__(config, *arguments, **options)
        self.main_input_name = ARGUMENTS[config.input_type][0]


class VattAudioModel(VattModalityModel, VattAudioPreTrainedModel):
    """Encoder of waveforms or spectrograms. `pooler_output` is the aggregation token."""

    def make_embeddings(self, config: VattAudioConfig) -> VattEmbeddings:
        is_waveform = config.input_type == "waveform"
        patches = VattWaveformEmbedding(config) if is_waveform else VattSpectrogramEmbedding(config)
        return VattEmbeddings(config, patches, config.hidden_size, config.grid, last_axis_first=not is_waveform)

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_values: torch.Tensor | None = None,
        input_features: torch.Tensor | None = None,
        token_permutation: torch.Tensor | None = None,
        encoder: VattEncoder | None = None,
        prefix_only: bool = False,
        **kwargs: Unpack[TransformersKwargs],
    ) -> EncoderOutput:
        """Encode sounds.

        Args:
            input_values: waveforms (batch, samples) in [-1, 1], for a model of waveforms.
            input_features: spectrograms (batch, frames, mel bins) in [0, 1], for a model of spectrograms.
            token_permutation, encoder, prefix_only: as in `VattVideoModel`.

        Returns:
            `last_hidden_state` (batch, 1 + tokens, channels), the aggregation token first; of a spectrogram, the
            tokens of each section of time follow one another.
        """
        inputs, other = input_values, input_features
        if self.config.input_type == "spectrogram":
            inputs, other = other, inputs
        check_audio(inputs, other, self.config)
        assert inputs is not None
        return self.encode(self.embeddings(inputs, token_permutation), encoder, prefix_only, **kwargs)


class VattForAudioClassification(VattForClassification, VattAudioPreTrainedModel):
    """Encoder of sound with a linear classifier on its aggregation token."""

    model_class = VattAudioModel

    @torch.no_grad()
    def _init_weights(self, module):
        """Initialise as the base class, and the classifier's bias for classes that are rarely present."""
        super()._init_weights(module)
        if module is getattr(self, "classifier", None) and isinstance(module, nn.Linear) and self.num_labels > 1:
            init.constant_(module.bias, -math.log(self.num_labels - 1))

    @can_return_tuple
    def forward(
        self,
        input_values: torch.Tensor | None = None,
        input_features: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        token_permutation: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ClassifierOutput:
        """Classify sounds.

        Args:
            input_values, input_features, token_permutation: as in `VattAudioModel`.
            labels: as in `ForClassification.classify`.
        """
        prefix_only = only_pooled_is_read(self.model, self.model.encoder.layers[-1], kwargs)
        outputs = self.model(
            input_values, input_features, token_permutation, prefix_only=prefix_only, return_dict=True, **kwargs
        )
        return self.classify(outputs, labels, **kwargs)


__all__ = ["VattAudioModel", "VattAudioPreTrainedModel", "VattForAudioClassification"]
