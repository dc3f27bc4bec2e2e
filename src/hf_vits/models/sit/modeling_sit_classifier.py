"""Fine-tuned classifiers of Sara-Ahmed/SiT (arXiv 2104.03602): a ViT with the classifiers of SiT's generations.

Commit 1aacd6a, vision_transformer_SiT.py and engine.py (`train_finetune`); commit 7f22e9c, vision_transformer.py.
"""

from dataclasses import dataclass

import torch
from torch import nn
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, can_return_tuple

from ...modeling import ClassifierOutput, classification_loss, only_pooled_is_read, recorded_states
from ..deit.modeling_deit import DeiTModel, DeiTPreTrainedModel
from .configuration_sit_classifier import SiTClassifierConfig


@dataclass
class SiTClassifierOutput(ClassifierOutput):
    """Output of a fine-tuned SiT.

    token_logits: (batch, prefix tokens, num_labels), logits of each prefix token, of which `logits` are the mean; None
        with head="token_and_mean".
    """

    token_logits: torch.Tensor | None = None


class SiTPooler(nn.Module):
    """Concatenation of the prefix tokens, or of the class token and the mean of the patches."""

    def __init__(self, config: SiTClassifierConfig):
        super().__init__()
        self.with_mean = config.head == "token_and_mean"
        self.num_prefix_tokens = config.num_prefix_tokens

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map (batch, tokens, hidden_size) to (batch, pooler_size)."""
        prefix, patches = hidden_states.tensor_split([self.num_prefix_tokens], dim=1)
        if self.with_mean:
            return torch.cat([prefix[:, 0], patches.mean(dim=1)], dim=1)
        return prefix.flatten(1)


class SiTModel(DeiTModel):
    """The encoder of a fine-tuned SiT: a DeiT with another `pooler_output`, see `SiTPooler`.

    Args:
        add_pooling_layer: whether `pooler_output` is computed.
    """

    config_class = SiTClassifierConfig
    pooler_class = SiTPooler


class SiTForImageClassification(DeiTPreTrainedModel):
    """A ViT with a classifier on each prefix token, or with one on the class token and the mean of the patches.

    `from_pretrained` also loads a backbone exported by `SiTForPreTraining.export`.
    """

    config_class = SiTClassifierConfig

    def __init__(self, config: SiTClassifierConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.model = SiTModel(config)
        if config.head == "tokens":
            self.classifier = nn.ModuleList(make_classifier(config) for _ in range(config.num_prefix_tokens))
        else:
            self.classifier = nn.Sequential(
                nn.Linear(config.pooler_size, config.hidden_size),
                nn.GELU(),
                nn.Linear(config.hidden_size, config.num_labels),
            )
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> SiTClassifierOutput:
        """Classify images.

        Args:
            pixel_values: (batch, num_channels, height, width), normalised by the image processor.
            labels: (batch,) class indices, or (batch, num_labels) for regression and multi-label problems. With
                head="tokens", the loss is the sum over the tokens.
        """
        by_token = self.config.head == "tokens"
        prefix_only = by_token and only_pooled_is_read(self, self.model.layers[-1], kwargs)
        outputs = self.model(pixel_values, prefix_only=prefix_only, return_dict=True, **kwargs)
        if by_token:
            tokens = outputs.pooler_output.chunk(len(self.classifier), dim=1)
            answers = [classifier(token) for classifier, token in zip(self.classifier, tokens, strict=True)]
            token_logits = torch.stack(answers, dim=1)
            logits = token_logits.mean(dim=1)
        else:
            logits = self.classifier(outputs.pooler_output)
            answers, token_logits = [logits], None
        loss = None
        if labels is not None:
            loss = sum(classification_loss(self, labels, answer, **kwargs) for answer in answers)
        return SiTClassifierOutput(loss=loss, logits=logits, token_logits=token_logits, **recorded_states(outputs))


def make_classifier(config: SiTClassifierConfig) -> nn.Module:
    size = config.representation_size
    if size is None:
        return nn.Linear(config.hidden_size, config.num_labels)
    return nn.Sequential(nn.Linear(config.hidden_size, size), nn.Tanh(), nn.Linear(size, config.num_labels))


__all__ = ["SiTClassifierOutput", "SiTForImageClassification", "SiTModel"]
