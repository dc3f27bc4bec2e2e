"""NTS-Net (arXiv 1809.00287) whose informative parts are selected by perturbed top-k.

Cordonnier et al., "Differentiable Patch Selection for Image Recognition", arXiv 2104.03059, section 4.3;
google-research/google-research, ptopk_patch_selection/ntsnet.py.
"""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import initialization as init
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from ...configuration import pair
from ...layers.convolution import to_map, to_tokens
from ...layers.patch_extraction import soft_patches
from ...layers.topk import entropies
from ...modeling import ClassifierOutput, EncoderOutput, ForImageClassification, classification_loss, part_of_batch
from .aggregation_patch_selection import PostNormLayer
from .configuration_nts_net import SQUEEZE_D, SQUEEZE_X, NtsNetConfig
from .modeling_patch_cnn import PatchCnnModel, same_conv, sequence
from .modeling_patch_selection import FeatureNetworkMixin, PatchSelectionPreTrainedModel
from .scorer_patch_selection import PerturbedSelection, SqueezeExcitation, normalize


@dataclass
class NtsNetOutput(EncoderOutput):
    """Output of the base model.

    last_hidden_state: (batch, parts, channels), the features of the parts.
    image_features: (batch, channels).
    pooler_output: (batch, channels), the features of the image plus the mean of the parts'.
    scores: (batch, anchors), raw; maps one after the other, in each anchor by anchor, in each row by row.
    indicators: (batch, parts, anchors).
    patches: (batch, parts, channels, part_size, part_size).
    entropy: (batch,), of softmax of the scores of each image, in nats.
    auxiliary_loss: (batch,), the entropy times its weight, whose mean is to be added to the classification losses.
    """

    image_features: torch.Tensor | None = None
    scores: torch.Tensor | None = None
    indicators: torch.Tensor | None = None
    patches: torch.Tensor | None = None
    entropy: torch.Tensor | None = None
    auxiliary_loss: torch.Tensor | None = None


@dataclass
class NtsNetClassifierOutput(ClassifierOutput):
    """Output of the classifier: fields of the base model, and of training.

    loss: the sum of the cross-entropies of `logits`, `image_logits` and `part_logits`, and of `auxiliary_loss`.
    logits: (batch, num_labels), of image and parts together.
    image_logits: (batch, num_labels); part_logits: (batch, parts, num_labels).
    """

    image_logits: torch.Tensor | None = None
    part_logits: torch.Tensor | None = None
    scores: torch.Tensor | None = None
    indicators: torch.Tensor | None = None
    patches: torch.Tensor | None = None
    entropy: torch.Tensor | None = None
    auxiliary_loss: torch.Tensor | None = None


class NtsNetPreTrainedModel(PatchSelectionPreTrainedModel):
    """Base class of NTS-Net's models."""

    config_class = NtsNetConfig
    needs_package = False  # pyright: ignore[reportAssignmentType]

    @torch.no_grad()
    def _init_weights(self, module):
        if isinstance(module, ProposalTransformer):
            init.normal_(module.position, std=1 / module.position.shape[-1])
        else:
            super()._init_weights(module)


class ProposalTransformer(nn.Module):
    """Transformer over the cells of all maps, with a learned position of each."""

    def __init__(self, config: NtsNetConfig):
        super().__init__()
        rows, columns = (side // min(config.anchor_strides) for side in pair(config.image_size))
        count = 0
        for _ in config.anchor_strides:
            count += rows * columns
            rows, columns = -(-rows // 2), -(-columns // 2)
        self.position = nn.Parameter(torch.zeros(1, count, config.proposal_size))
        self.layers = nn.ModuleList(
            PostNormLayer(config, config.proposal_size, config.hidden_dropout_prob, config.layer_norm_eps)
            for _ in range(config.num_hidden_layers)
        )

    def forward(self, maps: list[torch.Tensor], **kwargs) -> list[torch.Tensor]:
        """Map feature maps (batch, channels, rows, columns) to the same shapes."""
        tokens = torch.cat([to_tokens(one) for one in maps], dim=1)
        if tokens.shape[1] != self.position.shape[1]:
            raise ValueError(
                f"the transformer has positions of the {self.position.shape[1]} cells of images of config.image_size, "
                f"got images with {tokens.shape[1]}"
            )
        tokens = tokens + self.position
        for layer in self.layers:
            tokens = layer(tokens, **kwargs)
        parts = tokens.split([one.shape[2] * one.shape[3] for one in maps], dim=1)
        return [to_map(part, (one.shape[2], one.shape[3])) for part, one in zip(parts, maps, strict=True)]


class ProposalNet(nn.Module):
    """Scores of the anchors of three maps, each of half the size of the one before."""

    def __init__(self, config: NtsNetConfig):
        super().__init__()
        size, first = config.proposal_size, config.hidden_size
        self.down = nn.ModuleList(
            sequence(same_conv(before, size, 3, stride, bias=True) | {"relu": nn.ReLU()})
            for before, stride in ((first, 1), (size, 2), (size, 2))
        )
        self.tidy = nn.ModuleList(nn.Conv2d(size, count, 1) for count in config.num_anchors)
        kind = config.communication
        self.input_excitation = SqueezeExcitation(first, SQUEEZE_X) if kind == "squeeze_excite_x" else None
        self.excitation = SqueezeExcitation(size, SQUEEZE_D) if kind == "squeeze_excite_d" else None
        self.transformer = ProposalTransformer(config) if kind == "transformer" else None

    def forward(self, hidden_states: torch.Tensor, **kwargs) -> list[torch.Tensor]:
        """Map a feature map (batch, channels, rows, columns) to scores (batch, anchors, rows, columns) of each map."""
        if self.input_excitation is not None:
            hidden_states = self.input_excitation(hidden_states)
        maps = []
        for down in self.down:
            hidden_states = down(hidden_states)
            maps.append(hidden_states)
        if self.excitation is not None:
            weights = self.excitation.weights(torch.cat([one.flatten(2) for one in maps], dim=2).mean(dim=2))
            maps = [one * weights[:, :, None, None] for one in maps]
        elif self.transformer is not None:
            maps = self.transformer(maps, **kwargs)
        return [tidy(one) for tidy, one in zip(self.tidy, maps, strict=True)]


class NtsNetModel(FeatureNetworkMixin, NtsNetPreTrainedModel):
    """Features of the image and of its parts, by one network; `pooler_output` joins them."""

    def __init__(self, config: NtsNetConfig):
        super().__init__(config)
        self.feature_network = PatchCnnModel._from_config(config.feature_config)
        self.proposal = ProposalNet(config)
        self.dropout = nn.Dropout(config.dropout_prob)
        self.perturbed = PerturbedSelection(config)
        self.post_init()

    def parts(self, images: torch.Tensor, weights: list[torch.Tensor]) -> torch.Tensor:
        """Return parts (batch, parts, channels, part_size, part_size): sums of anchors' patches, resized.

        Args:
            weights: (batch, parts, anchors, rows, columns) of each map.
        """
        config, total = self.config, None
        for stride, sizes, of_map in zip(config.anchor_strides, config.anchors(), weights, strict=True):
            for size, one in zip(sizes, of_map.unbind(2), strict=True):
                before = (-(-(size[0] - stride) // 2), -(-(size[1] - stride) // 2))
                patches = soft_patches(images, one, size, (stride, stride), before).flatten(0, 1).float()
                resized = nn.functional.interpolate(patches, [config.part_size] * 2, mode="bilinear", antialias=True)
                total = resized if total is None else total + resized
        return total.to(images.dtype).unflatten(0, (images.shape[0], config.num_parts))

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        selection_noise: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> NtsNetOutput:
        """Encode images.

        Args:
            pixel_values: (batch, num_channels, height, width).
            selection_noise: (batch or 1, num_samples, anchors), standard normal; None to draw it in training, and for
                the same noise at each call in evaluation.
        """
        feature_map = self.feature_network.feature_map(pixel_values)
        maps = self.proposal(feature_map.detach(), **kwargs)
        raw = torch.cat([one.flatten(1) for one in maps], dim=1).float()
        scores = normalize(raw, "zerooneeps", 1e-5)
        indicators = self.perturbed(scores, self.config.num_parts, selection_noise)
        images = pixel_values.to(feature_map.dtype)
        weights = [
            part.unflatten(2, one.shape[1:]).to(images.dtype)
            for part, one in zip(indicators.split([one[0].numel() for one in maps], dim=2), maps, strict=True)
        ]
        patches = self.parts(images, weights)
        features = self.feature_network(patches.flatten(0, 1), return_dict=True).pooler_output
        features = self.dropout(features).unflatten(0, patches.shape[:2])
        image_features = self.dropout(feature_map.mean(dim=(2, 3)))
        entropy = entropies(raw.softmax(dim=-1))
        return NtsNetOutput(
            last_hidden_state=features,
            image_features=image_features,
            pooler_output=features.mean(dim=1) + image_features,
            scores=raw,
            indicators=indicators,
            patches=patches,
            entropy=entropy,
            auxiliary_loss=self.config.entropy_weight * entropy if self.config.entropy_weight else None,
        )


class NtsNetForImageClassification(ForImageClassification, NtsNetPreTrainedModel):
    """NTS-Net with classifiers of the image, of its parts, and of both together."""

    model_class = NtsNetModel

    def make_parts(self, config: NtsNetConfig) -> None:
        super().make_parts(config)
        self.image_classifier = self.make_classifier(config) if config.num_labels else nn.Identity()
        self.part_classifier = self.make_classifier(config) if config.num_labels else nn.Identity()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        selection_noise: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> NtsNetClassifierOutput:
        """Classify images.

        Args:
            pixel_values: (batch, num_channels, height, width).
            labels: (batch,) class indices, or (batch, num_labels) for regression and multi-label problems.
            selection_noise: as in `NtsNetModel.forward`.
        """
        outputs = self.model(pixel_values, selection_noise=selection_noise, return_dict=True, **kwargs)
        classified = self.classify(outputs, labels, **kwargs)
        image_logits = self.image_classifier(outputs.image_features)
        part_logits = self.part_classifier(outputs.last_hidden_state)
        if labels is not None:
            of_parts = labels[:, None].expand(-1, part_logits.shape[1], *labels.shape[1:]).flatten(0, 1)
            # The number of labels of a whole batch counts those of images, of which there are fewer than parts.
            part_loss = classification_loss(self, of_parts, part_logits.flatten(0, 1), **kwargs)
            if kwargs.get("num_items_in_batch") is not None:
                part_loss = part_loss / part_logits.shape[1]
            classified.loss = classified.loss + classification_loss(self, labels, image_logits, **kwargs) + part_loss
            if outputs.auxiliary_loss is not None:
                classified.loss = classified.loss + part_of_batch(outputs.auxiliary_loss.mean(), labels, **kwargs)
        names = ("scores", "indicators", "patches", "entropy", "auxiliary_loss")
        return NtsNetClassifierOutput(
            **classified,
            image_logits=image_logits,
            part_logits=part_logits,
            **{name: outputs.get(name) for name in names},
        )

    @staticmethod
    def further_logits(outputs: NtsNetClassifierOutput) -> list[tuple[torch.Tensor, float]]:
        """Return the logits that are trained beside `logits`, each with the weight of its loss."""
        return [(logits, 1.0) for logits in (outputs.image_logits, outputs.part_logits) if logits is not None]


__all__ = ["NtsNetForImageClassification", "NtsNetModel", "NtsNetPreTrainedModel"]
