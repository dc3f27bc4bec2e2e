"""Early-conv ViT: a ViT whose patches are replaced by a stem of convolutions without norm or activation.

Pelosin et al., "Towards Exemplar-Free Continual Learning in Vision Transformers", arXiv 2203.13167;
srvCodes/continual_learning_with_vit (src/networks/early_conv_vit_net.py). The stem follows Xiao et al., "Early
Convolutions Help Transformers See Better", arXiv 2106.14881, in its number of convolutions.
"""

import itertools
import math

import torch
from torch import nn
from transformers import initialization as init
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from ...layers.attention import SelfAttention
from ...layers.patch import check_pixel_values
from ...layers.position import SequencePositionEmbedding
from ...layers.transformer import TransformerLayer, drop_path_rates
from ...modeling import EncoderOutput, ForImageClassification, IsotropicBackbone, VitsPreTrainedModel
from .configuration_early_conv_vit import EarlyConvViTConfig


class EarlyConvViTStem(nn.Module):
    """3x3 convolutions of stride 2, then one of 1x1 to the tokens' channels."""

    def __init__(self, config: EarlyConvViTConfig):
        super().__init__()
        self.num_channels = config.num_channels
        sizes = [config.num_channels, *config.stem_hidden_sizes]
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, kernel_size=3, stride=2, padding=1) for before, after in itertools.pairwise(sizes)
        )
        self.projection = nn.Conv2d(sizes[-1], config.hidden_size, kernel_size=1)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Map (batch, num_channels, height, width) to (batch, hidden_size, rows, columns)."""
        check_pixel_values(pixel_values, self.num_channels)
        hidden_states = pixel_values.to(self.projection.weight.dtype)
        for layer in self.layers:
            hidden_states = layer(hidden_states)
        return self.projection(hidden_states)


class EarlyConvViTEmbeddings(nn.Module):
    """The class token, then the stem's tokens, with the first rows of a table of positions."""

    def __init__(self, config: EarlyConvViTConfig):
        super().__init__()
        self.config = config
        self.stem = EarlyConvViTStem(config)
        self.prefix_tokens = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        self.position_embedding = SequencePositionEmbedding(config.max_position_embeddings, config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Return (rows, columns) of the tokens of an image of this size in pixels."""
        return self.config.grid(height, width)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Map (batch, num_channels, height, width) to (batch, 1 + tokens, hidden_size)."""
        check_pixel_values(pixel_values, self.config.num_channels)
        self.grid(*pixel_values.shape[-2:])
        tokens = self.stem(pixel_values).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.prefix_tokens.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        return self.dropout(tokens + self.position_embedding(tokens.shape[1]))


class EarlyConvViTAttention(SelfAttention):
    """Self-attention whose heads have a width of their own; one head as wide as the tokens has no projection."""

    def __init__(self, config, hidden_size: int, num_heads: int, **options):
        super().__init__(config, hidden_size, num_heads, attention_size=num_heads * config.head_dim, **options)
        if num_heads == 1 and config.head_dim == hidden_size:
            self.projection = nn.Identity()


class EarlyConvViTLayer(TransformerLayer):
    """Pre-norm transformer layer with this architecture's attention."""

    attention_class = EarlyConvViTAttention


class EarlyConvViTPreTrainedModel(VitsPreTrainedModel):
    """Base class of Early-conv ViT's models."""

    config_class = EarlyConvViTConfig
    _no_split_modules = ["EarlyConvViTLayer"]

    @torch.no_grad()
    def _init_weights(self, module):
        """Initialise as the original: PyTorch's defaults; class token and positions from a unit normal."""
        if isinstance(module, nn.Linear | nn.Conv2d):
            bound = module.weight[0].numel() ** -0.5
            init.kaiming_uniform_(module.weight, a=math.sqrt(5))
            if module.bias is not None:
                init.uniform_(module.bias, -bound, bound)
        elif isinstance(module, SequencePositionEmbedding):
            init.normal_(module.table)
        elif isinstance(module, EarlyConvViTEmbeddings):
            init.normal_(module.prefix_tokens)
        else:
            super()._init_weights(module)


class EarlyConvViTModel(EarlyConvViTPreTrainedModel):
    """Early-conv ViT encoder. `pooler_output` is the class token or the mean of all tokens, class token included.

    Args:
        add_pooling_layer: whether `pooler_output` is computed.
    """

    _input_embed_layer = "stem"

    def __init__(self, config: EarlyConvViTConfig, add_pooling_layer: bool = True):
        super().__init__(config)
        self.embeddings = EarlyConvViTEmbeddings(config)
        rates = drop_path_rates(config.drop_path_rate, config.num_hidden_layers)
        self.layers = nn.ModuleList(EarlyConvViTLayer(config, rate) for rate in rates)
        self.add_pooling_layer = add_pooling_layer
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(self, pixel_values: torch.Tensor | None = None, **kwargs: Unpack[TransformersKwargs]) -> EncoderOutput:
        """Encode images (batch, num_channels, height, width)."""
        tokens = self.embeddings(pixel_values)
        for layer in self.layers:
            tokens = layer(tokens, **kwargs)
        pooled = None
        if self.add_pooling_layer:
            pooled = tokens[:, 0] if self.config.pooling == "token" else tokens.mean(dim=1)
        return EncoderOutput(last_hidden_state=tokens, pooler_output=pooled)


class EarlyConvViTForImageClassification(ForImageClassification, EarlyConvViTPreTrainedModel):
    """Early-conv ViT with a linear classifier."""

    model_class = EarlyConvViTModel


class EarlyConvViTBackbone(IsotropicBackbone, EarlyConvViTPreTrainedModel):
    """Early-conv ViT that returns feature maps, for detection and segmentation heads."""

    model_class = EarlyConvViTModel


__all__ = [
    "EarlyConvViTBackbone",
    "EarlyConvViTForImageClassification",
    "EarlyConvViTModel",
    "EarlyConvViTPreTrainedModel",
]
