"""A peer of Branchformer: SpeechBrain's encoder of the same name and sizes, with our subsampling and head.

It is a slightly cheaper network: no norm at the end of a layer, no bias for queries, keys and values, scores scaled by
the whole width, mirrored borders in the convolution.
"""

import torch
from torch import nn

from hf_vits import BranchformerConfig
from hf_vits.models.branchformer.subsampling_branchformer import ConvSubsampling


class SpeechBrainBranchformer(nn.Module):
    """Computes logits (batch, num_labels) from the mean of the frames of (batch, frames, bins)."""

    def __init__(self, **fields):
        super().__init__()
        from speechbrain.lobes.models.transformer.Branchformer import BranchformerEncoder
        from speechbrain.nnet.attention import RelPosEncXL

        config = BranchformerConfig(**fields)
        size = config.hidden_size
        self.subsampling = ConvSubsampling(config.input_layer, config.num_mel_bins, size)
        self.positions = RelPosEncXL(size)
        self.encoder = BranchformerEncoder(
            config.num_hidden_layers,
            size,
            config.num_attention_heads,
            kernel_size=config.conv_depthwise_kernel_size,
            dropout=config.hidden_dropout_prob,
            csgu_linear_units=config.intermediate_size,
        )
        self.head = nn.Linear(size, config.num_labels)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        frames = self.subsampling(features)
        encoded, _ = self.encoder(frames, pos_embs=self.positions(frames))
        return self.head(encoded.mean(dim=1))
