"""Fine-tuned classifiers of Sara-Ahmed/SiT (arXiv 2104.03602): a ViT with the classifiers of SiT's generations.

Commit 1aacd6a, vision_transformer_SiT.py and engine.py (`train_finetune`); commit 7e553e7, vision_transformer_SiT.py;
commit 7f22e9c, vision_transformer.py.
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

    token_logits: (batch, classifiers, num_labels), logits of each prefix token and, with head="tokens_and_mean", of
        the mean of the patches; `logits` are their mean. None with head="token_and_mean".
    """

    token_logits: torch.Tensor | None = None


class SiTPooler(nn.Module):
    """Concatenation of the tokens that the head reads: prefix tokens, the mean of the patches, or both."""

    def __init__(self, config: SiTClassifierConfig):
        super().__init__()
        self.head = config.head
        self.num_prefix_tokens = config.num_prefix_tokens

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map (batch, tokens, hidden_size) to (batch, pooler_size)."""
        prefix, patches = hidden_states.tensor_split([self.num_prefix_tokens], dim=1)
        if self.head == "token_and_mean":
            prefix = prefix[:, :1]
        mean = [] if self.head == "tokens" else [patches.mean(dim=1)]
        return torch.cat([prefix.flatten(1), *mean], dim=1)


class SiTModel(DeiTModel):
    """The encoder of a fine-tuned SiT: a DeiT with another `pooler_output`, see `SiTPooler`.

    Args:
        add_pooling_layer: whether `pooler_output` is computed.
    """

    config_class = SiTClassifierConfig
    pooler_class = SiTPooler


class SiTForImageClassification(DeiTPreTrainedModel):
    """A ViT with classifiers on prefix tokens and the mean of the patches, see `head` of `SiTClassifierConfig`.

    `from_pretrained` also loads a backbone exported by `SiTForPreTraining.export`.
    """

    config_class = SiTClassifierConfig

    def __init__(self, config: SiTClassifierConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.model = SiTModel(config)
        if config.head == "token_and_mean":
            self.classifier = make_mlp(config.pooler_size, config.hidden_size, config.num_labels)
        else:
            self.classifier = nn.ModuleList(make_classifier(config) for _ in range(config.num_prefix_tokens))
            if config.head == "tokens_and_mean":
                self.classifier.append(make_mlp(config.hidden_size, config.intermediate_size, config.num_labels))
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
                several classifiers, the loss is the sum of theirs.
        """
        prefix_only = self.config.head == "tokens" and only_pooled_is_read(self, self.model.layers[-1], kwargs)
        outputs = self.model(pixel_values, prefix_only=prefix_only, return_dict=True, **kwargs)
        if self.config.head != "token_and_mean":
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


def make_mlp(size: int, hidden_size: int, num_labels: int) -> nn.Module:
    return nn.Sequential(nn.Linear(size, hidden_size), nn.GELU(), nn.Linear(hidden_size, num_labels))


def make_classifier(config: SiTClassifierConfig) -> nn.Module:
    size = config.representation_size
    if size is None:
        return nn.Linear(config.hidden_size, config.num_labels)
    return nn.Sequential(nn.Linear(config.hidden_size, size), nn.Tanh(), nn.Linear(size, config.num_labels))


__all__ = ["SiTClassifierOutput", "SiTForImageClassification", "SiTModel"]
