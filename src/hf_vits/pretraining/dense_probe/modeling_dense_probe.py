"""Dense probe: a segmentation head on the patch tokens of a backbone, frozen or trained.

Ziegler and Asano, "Self-Supervised Learning of Object Parts for Semantic Segmentation", arXiv 2204.13101, section 4;
MkuuWaUjinga/leopart (experiments/linear_probing).
"""

import contextlib

import torch
from torch import nn
from torch.nn.functional import cross_entropy, interpolate
from transformers import AutoModel
from transformers import initialization as init
from transformers.modeling_outputs import SemanticSegmenterOutput
from transformers.utils.generic import can_return_tuple

from ...layers.arguments import check_ids, with_range
from ...layers.convolution import to_map
from ...layers.patch import square_grid
from ...layers.segmentation_head import ConvRelu, FCNHead
from ..modeling_probe import ProbeModel
from .configuration_dense_probe import DenseProbeConfig


class DenseProbeForSemanticSegmentation(ProbeModel):
    """Semantic segmentation by a head on the patch tokens of a backbone."""

    config_class = DenseProbeConfig

    def __init__(self, config: DenseProbeConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.backbone = AutoModel.from_config(config.backbone_config)
        if config.head == "linear":
            self.classifier = nn.Conv2d(config.token_size, config.num_labels, 1)
        else:
            self.classifier = FCNHead(
                config.token_size, config.num_labels, config.hidden_size, dropout=config.head_dropout_prob
            )
        self.post_init()
        self.freeze()

    @torch.no_grad()
    def _init_weights(self, module):
        if isinstance(module, ConvRelu):
            init.kaiming_normal_(module[0].weight, mode="fan_out", nonlinearity="relu")
            init.zeros_(module[0].bias)
        else:
            super()._init_weights(module)

    @can_return_tuple
    def forward(
        self, pixel_values: torch.Tensor | None = None, labels: torch.Tensor | None = None, **kwargs
    ) -> SemanticSegmenterOutput:
        """Segment images.

        Args:
            pixel_values: (batch, num_channels, height, width), normalised by the image processor.
            labels: (batch, height, width), classes, or `loss_ignore_index` where nothing is known.

        Returns:
            `logits` (batch, num_labels, height, width), and with labels `loss`, their mean cross-entropy.
        """
        if pixel_values is None:
            raise ValueError("pixel_values is missing: pass images (batch, channels, height, width)")
        with torch.no_grad() if self.is_frozen else contextlib.nullcontext():
            tokens = self.backbone(pixel_values, return_dict=True, **kwargs).last_hidden_state
        patches = tokens[:, self.config.backbone_config.num_prefix_tokens :]
        size = pixel_values.shape[-2:]
        maps = to_map(patches, square_grid(patches.shape[1], size))
        logits = interpolate(self.classifier(maps), size, mode="bilinear")
        loss = None
        if labels is not None:
            check_ids("labels", labels, (len(logits), *size))
            ignored = self.config.loss_ignore_index
            loss = with_range(
                "labels",
                self.config.num_labels,
                lambda: cross_entropy(logits.float(), labels.long(), ignore_index=ignored),
            )
        return SemanticSegmenterOutput(loss=loss, logits=logits)


__all__ = ["DenseProbeForSemanticSegmentation"]
