"""What probes share: a backbone, frozen or trained, under a head."""

from typing import Any, Self

from transformers import PreTrainedModel

from ..modeling import VitsPreTrainedModel


class ProbeModel(VitsPreTrainedModel):
    """Base of probes, which have a `backbone`."""

    base_model_prefix = "backbone"
    # The backbone can be any model of `AutoModel`; a self-contained code bundle would need its code as well.
    needs_package = True
    backbone: Any

    @classmethod
    def from_backbone(cls, backbone: PreTrainedModel, **fields) -> Self:
        """Make a probe on this backbone object, which is not copied.

        Args:
            fields: fields of the configuration.
        """
        config_class: Any = cls.config_class
        probe = cls(config_class(backbone_config=backbone.config, **fields))
        probe.backbone = backbone
        return probe.freeze()

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        loaded = super().from_pretrained(*args, **kwargs)
        # Loading creates new parameters, which require gradients.
        (loaded[0] if isinstance(loaded, tuple) else loaded).freeze()
        return loaded

    @property
    def is_frozen(self) -> bool:
        """Whether the backbone is not trained."""
        return getattr(self.config, "frozen", True)

    def freeze(self) -> Self:
        """Let a frozen backbone require no gradients, and stay in evaluation mode."""
        if self.is_frozen:
            self.backbone.requires_grad_(False)
        return self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the mode; a frozen backbone always stays in evaluation mode."""
        super().train(mode)
        if self.is_frozen:
            self.backbone.eval()
        return self
