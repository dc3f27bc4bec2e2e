"""Configuration of classifiers that Sara-Ahmed/SiT fine-tunes."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from ..deit.configuration_deit import DeiTConfig


@strict
class SiTClassifierConfig(DeiTConfig):
    """Configuration of a fine-tuned SiT; the defaults are the first generation's ViT-B/16. `DeiTConfig` says what the
    backbone is, and:

    Args:
        head: "tokens" for a linear classifier on every prefix token, whose logits are averaged and whose losses are
            summed (first generation), or "token_and_mean" for an MLP on the class token and the mean of the patches
            side by side (third generation).
        representation_size: with "tokens", width of a linear layer and tanh in front of each classifier; None leaves
            them out.
    """

    model_type = "hf_vits_sit_classifier"

    hidden_size: int = 768
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    distilled: bool = True
    head: Literal["tokens", "token_and_mean"] = "tokens"

    @property
    def pooler_size(self) -> int:
        """Channels of the prefix tokens, or of the class token and the mean of the patches, side by side."""
        return self.hidden_size * (self.num_prefix_tokens if self.head == "tokens" else 2)

    def check(self) -> None:
        super().check()
        if not self.use_class_token:
            raise ValueError("the classifiers read class tokens: use_class_token must be True")
        if self.head == "token_and_mean" and self.representation_size is not None:
            raise ValueError(
                'head="token_and_mean" has no representation layer: representation_size must be None, got '
                f"{self.representation_size}"
            )


__all__ = ["SiTClassifierConfig"]
