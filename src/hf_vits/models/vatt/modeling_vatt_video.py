"""VATT's video encoder, and classifiers of clips and images.

Akbari et al., arXiv 2104.11178, sections 3.1 and 4; google-research/vatt, modeling/backbones/video/vitx3d.py.
"""

from typing import Any

import torch
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from ...layers.patch import TubeletEmbedding, check_pixel_values
from ...modeling import ClassifierOutput, EncoderOutput, only_pooled_is_read
from .configuration_vatt_video import VattVideoConfig
from .encoder_vatt import VattEmbeddings, VattEncoder, VattForClassification, VattModalityModel, VattPreTrainedModel


class VattTubeletEmbedding(TubeletEmbedding):
    """Embedding of tubelets; frames, rows and columns at the end that fill no tubelet are left out."""

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Map (batch, frames, num_channels, height, width) to (batch, frames, rows, columns, hidden_size)."""
        check_pixel_values(pixel_values, self.num_channels, clips=True)
        frames, _, height, width = pixel_values.shape[1:]
        sizes = [
            length // side * side for length, side in zip((frames, height, width), self.tubelet_size, strict=True)
        ]
        if 0 in sizes:
            raise ValueError(
                f"a clip of {frames} frames of {height}x{width} pixels is smaller than a tubelet of "
                f"{' x '.join(map(str, self.tubelet_size))}: repeat or resize its frames"
            )
        return super().forward(pixel_values[:, : sizes[0], :, : sizes[1], : sizes[2]])


class VattVideoPreTrainedModel(VattPreTrainedModel):
    """Base class of the models of clips."""

    config_class = VattVideoConfig
    input_modalities = ("video",)


class VattVideoModel(VattModalityModel, VattVideoPreTrainedModel):
    """Video encoder. `pooler_output` is the aggregation token."""

    def make_embeddings(self, config: VattVideoConfig) -> VattEmbeddings:
        patches = VattTubeletEmbedding(config.num_channels, config.hidden_size, tuple(config.tubelet_size))
        return VattEmbeddings(config, patches, config.hidden_size, config.grid)

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        token_permutation: torch.Tensor | None = None,
        encoder: VattEncoder | None = None,
        prefix_only: bool = False,
        **kwargs: Unpack[TransformersKwargs],
    ) -> EncoderOutput:
        """Encode clips.

        Args:
            pixel_values: (batch, frames, num_channels, height, width) in [-1, 1].
            token_permutation: (tokens,), order of the tokens of which DropToken keeps the first in training; None for
                a random one.
            encoder: encoder to use in place of the model's own.
            prefix_only: compute only the aggregation token of `last_hidden_state`, which saves most of the last
                layer's operations.

        Returns:
            `last_hidden_state` (batch, 1 + tokens, channels), the tokens frame by frame after the aggregation token;
            with DropToken in training, in the order of the permutation.
        """
        return self.encode(self.embeddings(pixel_values, token_permutation), encoder, prefix_only, **kwargs)


class VattForVideoClassification(VattForClassification, VattVideoPreTrainedModel):
    """Video encoder with a linear classifier on its aggregation token."""

    model_class = VattVideoModel

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        token_permutation: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ClassifierOutput:
        """Classify clips; the original averages the logits of several views of a clip.

        Args:
            pixel_values, token_permutation: as in `VattVideoModel`.
            labels: as in `ForClassification.classify`.
        """
        prefix_only = only_pooled_is_read(self.model, self.model.encoder.layers[-1], kwargs)
        outputs = self.model(
            pixel_values, token_permutation=token_permutation, prefix_only=prefix_only, return_dict=True, **kwargs
        )
        return self.classify(outputs, labels, **kwargs)


class VattForImageClassification(VattForVideoClassification):
    """Classifier of images, each seen as a clip of one tubelet, whose frames are all the image (section 4.2)."""

    input_modalities = ("image",)

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        token_permutation: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ClassifierOutput:
        """Classify images.

        Args:
            pixel_values: (batch, num_channels, height, width) in [-1, 1].
            labels, token_permutation: as in `VattForVideoClassification`.
        """
        check_pixel_values(pixel_values, self.config.num_channels)
        assert pixel_values is not None
        clips = pixel_values[:, None].expand(-1, self.config.tubelet_size[0], -1, -1, -1)
        options: Any = {**kwargs, "return_dict": True}
        return super().forward(clips, labels, token_permutation, **options)


__all__ = ["VattForImageClassification", "VattForVideoClassification", "VattVideoModel", "VattVideoPreTrainedModel"]
