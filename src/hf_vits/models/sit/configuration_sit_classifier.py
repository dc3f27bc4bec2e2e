"""Configuration of the classifiers of Sara-Ahmed/SiT."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from ..deit.configuration_deit import DeiTConfig


@strict
class SiTClassifierConfig(DeiTConfig):
    """Configuration of a fine-tuned SiT; the defaults are the first generation's ViT-B/16.

    The fields of `DeiTConfig` describe the backbone, and:

    Args:
        head: "tokens" for a linear classifier on every prefix token (first generation); "tokens_and_mean" for these
            and an MLP on the mean of the patches (second generation), both with averaged logits and summed losses; or
            "token_and_mean" for an MLP on the class token concatenated with the mean of the patches (third
            generation).
        representation_size: with "tokens", channels of a linear layer with tanh before each classifier; None for none.
    """

    model_type = "hf_vits_sit_classifier"

    hidden_size: int = 768
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    distilled: bool = True
    head: Literal["tokens", "tokens_and_mean", "token_and_mean"] = "tokens"

    @property
    def pooler_size(self) -> int:
        """Channels of the concatenated tokens that the head reads, the mean of the patches being one."""
        if self.head == "token_and_mean":
            return 2 * self.hidden_size
        return self.hidden_size * (self.num_prefix_tokens + (self.head == "tokens_and_mean"))

    def check(self) -> None:
        super().check()
        if not self.use_class_token:
            raise ValueError("the classifiers read class tokens: use_class_token must be True")
        if self.head != "tokens" and self.representation_size is not None:
            raise ValueError(
                f'head="{self.head}" has no representation layer: representation_size must be None, got '
                f"{self.representation_size}"
            )


__all__ = ["SiTClassifierConfig"]
