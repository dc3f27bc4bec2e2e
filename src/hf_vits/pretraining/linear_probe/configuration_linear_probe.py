"""Configuration of a linear classifier on the features of a frozen backbone."""

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from ..configuration_probe import ProbeConfig


@strict
class LinearProbeConfig(ProbeConfig):
    """Configuration of a linear probe; by default on the `pooler_output` of DINO's ViT-S/16.

    Args:
        backbone_config: configuration of the backbone, any model of `AutoModel`; a dict must name its `model_type`.
        num_layers: number of last layers whose features are concatenated: each layer's class token or, without one,
            the mean of its tokens. With 1, the features are `pooler_output`. DINO uses 4 for ViT-S and 1 for ViT-B.
        patch_mean: whether the mean of the last layer's patches is concatenated too (DINO's ViT-B).
        batch_norm: whether a batch norm without parameters precedes the classifier (MAE).
    """

    model_type = "hf_vits_linear_probe"
    size_fields = ("num_layers",)

    num_layers: int = 1
    patch_mean: bool = False
    batch_norm: bool = False

    @property
    def pooler_size(self) -> int:
        """Channels of the features."""
        if self.num_layers == 1 and not self.patch_mean:
            return self.backbone_config.pooler_size
        widths = layer_widths(self.backbone_config)
        return sum(widths[-self.num_layers :]) + (widths[-1] if self.patch_mean else 0)

    def check(self) -> None:
        super().check()
        depth = len(layer_widths(self.backbone_config))
        if self.num_layers > depth:
            raise ValueError(f"num_layers must be at most the backbone's {depth} layers, got {self.num_layers}")


def layer_widths(config: PreTrainedConfig) -> list[int]:
    """Return the channels of each layer's output."""
    if hasattr(config, "depths"):
        return [size for size, depth in zip(config.hidden_sizes, config.depths, strict=True) for _ in range(depth)]
    return [config.hidden_size] * config.num_hidden_layers


__all__ = ["LinearProbeConfig"]
