"""Configuration of a segmentation head on the patch tokens of a backbone."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from ..configuration_probe import ProbeConfig


@strict
class DenseProbeConfig(ProbeConfig):
    """Configuration of a dense probe; by default a linear head on the frozen patch tokens of DINO's ViT-S/16.

    Args:
        backbone_config: configuration of the backbone, any model of `AutoModel`; a dict must name its `model_type`.
        head: "linear", one layer for every token, or "fcn", two convolutions, a third over their output beside the
            tokens, and a classifier (Leopart).
        hidden_size: channels of the convolutions of "fcn".
        head_dropout_prob: rate at which "fcn" drops whole channels in training.
        frozen: whether the backbone is not trained.
        loss_ignore_index: label of pixels of which nothing is known.
    """

    model_type = "hf_vits_dense_probe"
    size_fields = ("hidden_size",)
    rate_fields = ("head_dropout_prob",)

    head: Literal["linear", "fcn"] = "linear"
    hidden_size: int = 512
    head_dropout_prob: float = 0.1
    frozen: bool = True
    loss_ignore_index: int = 255

    @property
    def token_size(self) -> int:
        """Channels of the patch tokens."""
        sizes = getattr(self.backbone_config, "hidden_sizes", None)
        return sizes[-1] if sizes else self.backbone_config.hidden_size


__all__ = ["DenseProbeConfig"]
