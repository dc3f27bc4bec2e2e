"""The class token's attention in the last layer of a ViT, by which AttMask masks and which DINO draws."""

import torch
from transformers import PreTrainedModel

from ..layers.attention import SplitHeads


def class_attention_layer(backbone: PreTrainedModel) -> SplitHeads | None:
    """Return the last attention projection of a backbone whose class token attends to all patches, or None."""
    layers = [module for module in backbone.modules() if isinstance(module, SplitHeads)]
    return layers[-1] if layers and backbone.config.num_prefix_tokens else None


class LastAttention:
    """Context manager that records the queries and keys of a backbone's last attention layer.

    Raises:
        ValueError: the backbone has no class token that attends to all patches.
    """

    def __init__(self, backbone: PreTrainedModel):
        self.layer = class_attention_layer(backbone)
        if self.layer is None:
            raise ValueError(
                f"{type(backbone).__name__} has no class token that attends to all patches, so that there is no "
                'attention to draw, to mask or to find a foreground by (masking="given" does without)'
            )
        self.num_prefix_tokens = backbone.config.num_prefix_tokens

    def __enter__(self) -> "LastAttention":
        self.handle = self.layer.register_forward_hook(self.record)
        return self

    def __exit__(self, *exception) -> None:
        self.handle.remove()

    def record(self, module, arguments, output: tuple[torch.Tensor, ...]) -> None:
        """Store the class token's query and all keys; a forward hook."""
        self.query, self.key = output[0][:, :, :1], output[1]

    def of_class_token(self) -> torch.Tensor:
        """Return the class token's attention to the patches (batch, patches), averaged over heads."""
        return self.of_each_head().mean(dim=1)

    def of_each_head(self) -> torch.Tensor:
        """Return the class token's attention to the patches, (batch, heads, patches)."""
        scores = self.query @ self.key.transpose(-2, -1) * self.key.shape[-1] ** -0.5
        return scores.float().softmax(dim=-1)[:, :, 0, self.num_prefix_tokens :]
