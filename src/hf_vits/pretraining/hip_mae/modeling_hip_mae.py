"""HiP that learns positions of pixels by masked auto-encoding.

Carreira et al., "HiP: Hierarchical Perceiver", arXiv 2202.10890. The original has no code for the objective: see
`HipForPreTraining`.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import normalize
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput
from transformers.utils.generic import TransformersKwargs, can_return_tuple

from ...layers.patch import check_pixel_values
from ...models.hip.configuration_hip import IMAGE
from ...models.hip.modeling_hip import HipForPreTraining, HipModel
from ..method import Column, PretrainingMethod
from .configuration_hip_mae import HipMAEConfig


@dataclass
class HipMAEOutput(ModelOutput):
    """Output of HiP as a masked autoencoder.

    loss: scalar, mean squared error of the hidden pixels.
    logits: (batch, pixels, channels), reconstructions of all pixels line by line, normalised as by the processor.
    mask: (batch, pixels), 1 where a pixel was hidden, else 0.
    last_hidden_state, pooler_output, hidden_states, attentions: as in `HipOutput`.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    last_hidden_state: torch.Tensor | None = None
    pooler_output: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class HipMAEForPreTraining(PretrainingMethod, HipForPreTraining):
    """HiP that reconstructs hidden pixels of images."""

    config_class = HipMAEConfig
    main_input_name = "pixel_values"

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> HipMAEOutput:
        """Reconstruct the hidden pixels.

        Args:
            pixel_values: (batch, num_channels, height, width), normalised by the image processor.
            mask: boolean (batch, height * width), True where a pixel is hidden; None as in `HipForPreTraining`.
        """
        check_pixel_values(pixel_values, self.config.num_channels)
        outputs = super().forward(pixel_values, mask, return_dict=True, **kwargs)  # pyright: ignore[reportCallIssue]
        return HipMAEOutput(
            loss=outputs.loss,
            logits=outputs.reconstruction[IMAGE],
            mask=outputs.mask[IMAGE],
            last_hidden_state=outputs.last_hidden_state,
            pooler_output=outputs.pooler_output,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def picture(self, pixel_values: torch.Tensor) -> list[Column]:
        """Return what the model sees and what it paints, and how similar all pixels' positions are to one pixel's.

        In each row it is another pixel.
        """
        side = self.config.image_size
        outputs = self(pixel_values, return_dict=True)
        hidden = outputs.mask.unflatten(1, (side, side)).bool()
        painted = outputs.logits.transpose(1, 2).unflatten(2, (side, side))
        painted = painted.where(hidden[:, None], pixel_values)
        positions = normalize(self.model.embeddings.modalities[IMAGE].position_embedding()[0], dim=-1)  # pyright: ignore[reportCallIssue]
        chosen = torch.linspace(0, side * side - 1, len(pixel_values) + 2)[1:-1].long()
        maps = (positions[chosen] @ positions.T).unflatten(1, (side, side))
        return [
            Column(f"{1 - self.config.mask_ratio:.0%} seen", pixel_values, hidden=hidden),
            Column("painted", painted),
            Column("positions", maps, is_map=True),
        ]

    def export(self) -> HipModel:
        """Return a copy of the model without the objective."""
        model = HipModel(self.config.encoder_config())
        model.load_state_dict(self.model.state_dict())
        return model.train(self.training)


__all__ = ["HipMAEForPreTraining"]
