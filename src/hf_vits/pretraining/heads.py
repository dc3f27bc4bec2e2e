"""Heads between a backbone's tokens and the losses of self-supervised learning."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from transformers.activations import ACT2FN


class WeightNormLinear(nn.Module):
    """Weight-normalised linear layer without bias: each row is a magnitude times a direction (arXiv 1602.07868).

    Args:
        train_magnitude: whether the magnitudes are trained; otherwise they stay 1.
    """

    def __init__(self, in_features: int, out_features: int, train_magnitude: bool = False):
        super().__init__()
        self.train_magnitude = train_magnitude
        self.magnitude = nn.Parameter(torch.ones(out_features, 1))
        self.direction = nn.Parameter(torch.empty(out_features, in_features))

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        # `from_pretrained` registers new parameters.
        if name == "magnitude" and param is not None and not self.train_magnitude:
            param.requires_grad_(False)
        super().register_parameter(name, param)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map (..., in_features) to (..., out_features)."""
        # The function behind torch.nn.utils.parametrizations.weight_norm; its backward pass copies no weights.
        return nn.functional.linear(features, torch._weight_norm(self.direction, self.magnitude))


class TokenBatchNorm(nn.BatchNorm1d):
    """Batch norm over all tokens of a batch."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map (..., channels) to the same shape."""
        return super().forward(features.flatten(0, -2)).view_as(features)


NORMS = {"batch_norm": TokenBatchNorm, "layer_norm": nn.LayerNorm}


class SharedModule(nn.Module):
    """Second use of a module that is registered elsewhere; has no parameters of its own."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.shared = (module,)  # in a tuple, so that it is not registered here as well

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.shared[0](features)


class ProjectionMLP(nn.Sequential):
    """MLP of linear layers with an activation, and optionally a norm, between them.

    Args:
        sizes: channels before, between and after the layers.
        activations: activation of each layer but the last, or one for all; names of transformers' `ACT2FN`.
        norm: "batch_norm" or "layer_norm" before each activation; None for none.
        shared_norm: whether all layers share one norm, as in iBOT's code.
        normalize_output: whether a batch norm without parameters follows the last layer.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activations: str | Sequence[str] = "gelu",
        bias: bool = True,
        norm: str | None = None,
        shared_norm: bool = False,
        normalize_output: bool = False,
    ):
        if norm is not None and norm not in NORMS:
            raise ValueError(f"norm must be one of {', '.join(map(repr, NORMS))} or None, got {norm!r}")
        *hidden, last = pairwise(sizes)
        if isinstance(activations, str):
            activations = [activations] * len(hidden)
        layers: list[nn.Module] = []
        first_norm = None
        for (before, after), activation in zip(hidden, activations, strict=True):
            layers.append(nn.Linear(before, after, bias=bias))
            if norm is not None and shared_norm and first_norm is not None:
                layers.append(SharedModule(first_norm))
            elif norm is not None:
                layers.append(first_norm := NORMS[norm](after))
            layers.append(ACT2FN[activation])
        layers.append(nn.Linear(*last, bias=bias))
        if normalize_output:
            layers.append(TokenBatchNorm(sizes[-1], affine=False))
        super().__init__(*layers)


def hidden_sizes(in_features: int, hidden_size: int, out_features: int, num_layers: int) -> list[int]:
    """Return the channels before, between and after `num_layers` linear layers."""
    return [in_features, *[hidden_size] * (num_layers - 1), out_features]


class DINOHead(nn.Module):
    """DINO's head: MLP to a bottleneck, L2 normalisation, then a weight-normalised layer to the prototypes.

    facebookresearch/dino, vision_transformer.py, `DINOHead`. EsViT has one for views and one for regions.

    Args:
        in_features: channels of the backbone.
        num_prototypes: output dimensions.
        hidden_size, bottleneck_size, num_layers: hidden and output channels and number of layers of the MLP.
        hidden_act, norm, shared_norm: see `ProjectionMLP`.
        train_magnitude: whether the magnitudes of the last layer's rows are trained (the original's
            norm_last_layer=False).
    """

    def __init__(
        self,
        in_features: int,
        num_prototypes: int,
        hidden_size: int = 2048,
        bottleneck_size: int = 256,
        num_layers: int = 3,
        hidden_act: str = "gelu",
        norm: str | None = None,
        shared_norm: bool = False,
        train_magnitude: bool = False,
    ):
        super().__init__()
        sizes = hidden_sizes(in_features, hidden_size, bottleneck_size, num_layers)
        self.mlp = ProjectionMLP(sizes, hidden_act, norm=norm, shared_norm=shared_norm)
        self.last_layer = WeightNormLinear(bottleneck_size, num_prototypes, train_magnitude)

    def bottleneck(self, features: torch.Tensor) -> torch.Tensor:
        """Map (..., in_features) to L2-normalised (..., bottleneck_size)."""
        return nn.functional.normalize(self.mlp(features), dim=-1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map (..., in_features) to (..., num_prototypes)."""
        return self.last_layer(self.bottleneck(features))


class IBOTHead(DINOHead):
    """iBOT's head: DINO's head with a last layer for patches (bytedance/ibot, models/head.py).

    Args:
        num_patch_prototypes: output dimensions for patches; None to use the last layer of class tokens for patches.
        options: arguments of `DINOHead`.
    """

    def __init__(
        self,
        in_features: int,
        num_prototypes: int,
        num_patch_prototypes: int | None = None,
        train_magnitude: bool = False,
        **options,
    ):
        super().__init__(in_features, num_prototypes, train_magnitude=train_magnitude, shared_norm=True, **options)
        self.patch_layer = None
        if num_patch_prototypes is not None:
            bottleneck_size = self.last_layer.direction.shape[1]
            self.patch_layer = WeightNormLinear(bottleneck_size, num_patch_prototypes, train_magnitude)

    def patches(self, bottleneck: torch.Tensor) -> torch.Tensor:
        """Map patches (..., bottleneck_size), outputs of `bottleneck`, to (..., patch prototypes)."""
        return (self.last_layer if self.patch_layer is None else self.patch_layer)(bottleneck)


class PrototypeHead(nn.Module):
    """Leopart's head: MLP to a bottleneck, L2 normalisation, and similarities to prototypes.

    MkuuWaUjinga/leopart, src/vit.py. The caller keeps the prototypes, rows of `prototypes.weight`, at length 1.

    Args:
        in_features: channels of the backbone.
        num_prototypes: number of clusters.
        hidden_size, bottleneck_size, num_layers: hidden and output channels and number of layers of the MLP.
    """

    def __init__(
        self,
        in_features: int,
        num_prototypes: int,
        hidden_size: int = 2048,
        bottleneck_size: int = 256,
        num_layers: int = 3,
    ):
        super().__init__()
        self.mlp = ProjectionMLP(hidden_sizes(in_features, hidden_size, bottleneck_size, num_layers))
        self.prototypes = nn.Linear(bottleneck_size, num_prototypes, bias=False)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return embeddings (..., bottleneck_size) of length 1 and scores (..., num_prototypes)."""
        embeddings = nn.functional.normalize(self.mlp(features), dim=-1)
        return embeddings, self.prototypes(embeddings)


class ReconstructionHead(nn.Module):
    """Decoder from patch tokens to pixels: linear layers with GELU, then a transposed convolution.

    Sara-Ahmed/SiT: no linear layer in the first generation, two in the second, three in the third.

    Args:
        in_features: channels of the backbone and of the linear layers.
        num_layers: number of linear layers.
        patch_size: side of a patch in pixels.
    """

    def __init__(self, in_features: int, num_layers: int, patch_size: int, num_channels: int = 3):
        super().__init__()
        layers = [(nn.Linear(in_features, in_features), nn.GELU()) for _ in range(num_layers)]
        self.mlp = nn.Sequential(*[part for layer in layers for part in layer])
        self.paint = nn.ConvTranspose2d(in_features, num_channels, kernel_size=patch_size, stride=patch_size)

    def forward(self, patches: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """Map (batch, rows * columns, in_features) to images (batch, num_channels, height, width)."""
        return self.paint(self.mlp(patches).transpose(1, 2).unflatten(2, grid))


def contrastive_head(in_features: int, out_features: int, hidden_size: int = 2048) -> ProjectionMLP:
    """Make the head of SiT's second generation, for the contrastive (256 outputs) or the rotation task (4)."""
    return ProjectionMLP(hidden_sizes(in_features, hidden_size, out_features, 3), bias=False)


def momentum_contrastive_head(in_features: int, out_features: int = 256, hidden_size: int = 4096) -> ProjectionMLP:
    """Make the head of SiT's third generation: batch norms, ReLU after the first layer, GELU after the second."""
    sizes = hidden_sizes(in_features, hidden_size, out_features, 3)
    return ProjectionMLP(sizes, ["relu", "gelu"], norm="batch_norm", normalize_output=True)
