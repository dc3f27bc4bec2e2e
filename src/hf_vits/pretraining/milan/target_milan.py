"""The target network of MILAN: CLIP's image tower, or an encoder of hf_vits (zejiangh/MILAN, clip_demo.py)."""

import torch
from torch import nn
from transformers import AutoModel, CLIPVisionModelWithProjection, PreTrainedModel

from ...configuration import pair
from ...models.vit.modeling_vit import ViTModel
from ..class_attention import LastAttention, class_attention_layer
from .configuration_milan import CLIP, MILANConfig


class ClipAttention(LastAttention):
    """As `LastAttention`, of a CLIP image tower of transformers.

    Args:
        vision: `CLIPVisionModel`.
    """

    num_prefix_tokens = 1

    def __init__(self, vision: PreTrainedModel):
        self.layer = vision.encoder.layers[-1].self_attn  # pyright: ignore[reportAttributeAccessIssue, reportIndexIssue]

    def __enter__(self) -> "ClipAttention":
        self.handles = [
            self.layer.q_proj.register_forward_hook(self.record_query),
            self.layer.k_proj.register_forward_hook(self.record_key),
        ]
        return self

    def __exit__(self, *exception) -> None:
        for handle in self.handles:
            handle.remove()

    def record_query(self, module, arguments, output: torch.Tensor) -> None:
        self.query = output[:, :1].unflatten(-1, (self.layer.num_heads, -1)).transpose(1, 2)

    def record_key(self, module, arguments, output: torch.Tensor) -> None:
        self.key = output.unflatten(-1, (self.layer.num_heads, -1)).transpose(1, 2)


class FrozenQuickGELU(nn.Module):
    """QuickGELU, x * sigmoid(1.702 x), in one kernel and in place, for networks that are not trained."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return nn.functional.silu(features * 1.702, inplace=True).mul_(1 / 1.702)


def make_target(config: MILANConfig) -> PreTrainedModel | None:
    """Return the target network of a configuration, without trained weights; None if it has none.

    Raises:
        ValueError: masks are to follow attention, and the network has no class token that attends to all patches.
    """
    if config.target_config is None:
        return None
    if config.target_config.model_type == CLIP:
        clip_class = CLIPVisionModelWithProjection if config.project_target else AutoModel
        from_config = getattr(clip_class, "_from_config", None) or clip_class.from_config  # pyright: ignore[reportAttributeAccessIssue]
        network = from_config(config.target_config)
        if config.target_config.hidden_act == "quick_gelu":
            for layer in getattr(network, "vision_model", network).encoder.layers:
                layer.mlp.activation_fn = FrozenQuickGELU()
    else:
        network = AutoModel.from_config(config.target_config)
        if config.masking == "semantic" and class_attention_layer(network) is None:
            raise ValueError(
                f"{type(network).__name__} has no class token whose attention could guide the masks: take another "
                'target network, or masking="random"'
            )
    return network.requires_grad_(False).eval()


def describe(
    network: nn.Module, pixel_values: torch.Tensor, grid: tuple[int, int], attention: bool = True
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the target features of images and the attention of the class token to their patches.

    CLIP and ViTs see the images resized so that their patches are those of the encoder, one to one.

    Args:
        network: as `make_target` returns it.
        pixel_values: (batch, num_channels, height, width), normalised for the encoder; the original normalises for
            CLIP by the mean and deviation of ImageNet, too.
        grid: (rows, columns) of the encoder's patches.
        attention: whether the attention is needed.

    Returns:
        Features (batch, class token + patches, target_size), without a class token if the network has none, and the
        attention in the last layer, averaged over heads (batch, patches), or None.

    Raises:
        ValueError: the network's patches are not those of the encoder.
    """
    config = network.config
    if config.model_type == CLIP or isinstance(network, ViTModel):  # pyright: ignore[reportAttributeAccessIssue]
        sides = [cells * side for cells, side in zip(grid, pair(config.patch_size), strict=True)]  # pyright: ignore[reportAttributeAccessIssue]
        if sides != list(pixel_values.shape[-2:]):
            resized = nn.functional.interpolate(pixel_values.float(), sides, mode="bicubic", antialias=True)
            pixel_values = resized.to(pixel_values.dtype)
    with torch.no_grad():
        clip = config.model_type == CLIP  # pyright: ignore[reportAttributeAccessIssue]
        features, importance = (clip_features if clip else encoder_features)(network, pixel_values, attention)
    if features.shape[1] - grid[0] * grid[1] not in (0, 1):
        raise ValueError(
            f"the target network {type(network).__name__} has {features.shape[1]} tokens, which are not those of the "
            f"encoder's {grid[0]}x{grid[1]} patches: take a target network or an encoder of another patch size"
        )
    return features, importance


def clip_features(network, pixel_values: torch.Tensor, attention: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return features of all tokens of the last layer, normalised and projected, and the class token's attention."""
    vision, projection = getattr(network, "vision_model", network), getattr(network, "visual_projection", None)
    resized = pixel_values.shape[-2:] != pair(network.config.image_size)
    with ClipAttention(vision) as last:
        tokens = vision(pixel_values, interpolate_pos_encoding=resized, return_dict=True).last_hidden_state
    features = vision.post_layernorm(tokens)
    features = features if projection is None else projection(features)
    return features, last.of_class_token() if attention else None


def encoder_features(network, pixel_values: torch.Tensor, attention: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the last hidden state, of the prefix tokens only the first, and the class token's attention."""
    count = network.config.num_prefix_tokens
    if attention:
        with LastAttention(network) as last:
            tokens = network(pixel_values, return_dict=True).last_hidden_state
        importance = last.of_class_token()
    else:
        tokens, importance = network(pixel_values, return_dict=True).last_hidden_state, None
    return first_prefix(tokens, count), importance


def first_prefix(tokens: torch.Tensor, num_prefix_tokens: int) -> torch.Tensor:
    """Return tokens (batch, prefix + patches, channels) without all prefix tokens but the first."""
    if num_prefix_tokens < 2:
        return tokens
    return torch.cat([tokens[:, :1], tokens[:, num_prefix_tokens:]], dim=1)
