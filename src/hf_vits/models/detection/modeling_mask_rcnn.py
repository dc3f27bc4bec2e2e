"""Mask R-CNN and Cascade Mask R-CNN: regions are proposed first, then each gets a class, a box and a mask.

He et al., "Mask R-CNN", arXiv 1703.06870; Cai and Vasconcelos, "Cascade R-CNN", arXiv 1712.00726; Ren et al., "Faster
R-CNN", arXiv 1506.01497; detectron2 (detectron2/modeling/proposal_generator, detectron2/modeling/roi_heads).
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from transformers.utils.generic import can_return_tuple

from ...layers.anchors import per_anchor
from ...layers.boxes import (
    IGNORED,
    NEGATIVE,
    POSITIVE,
    are_filled,
    clip_boxes,
    decode_boxes,
    encode_boxes,
    l1_loss,
    match,
    overlaps,
    sample,
    suppress,
)
from ...layers.convolution import ConvNorm
from ...layers.regions import RegionPooling, crop_masks
from .configuration_mask_rcnn import MaskRcnnConfig
from .modeling_detection import DetectionOutput, DetectorPreTrainedModel, Labels, predicts

# By what the offsets of proposals are multiplied; those of detections have the weights of the configuration.
WEIGHTS = (1.0, 1.0, 1.0, 1.0)


class Regions(NamedTuple):
    """Regions of an image with the object to which each belongs.

    Attributes:
        boxes: (n, 4).
        labels: (n,), class of the object; the number of classes for the background.
        matches: (n,), index of the object.
    """

    boxes: torch.Tensor
    labels: torch.Tensor
    matches: torch.Tensor


def convolution(config: MaskRcnnConfig, in_size: int) -> nn.Sequential:
    """Make a 3x3 convolution of a head, with ReLU and, if `head_norm`, with batch norm."""
    if config.head_norm:
        return ConvNorm(in_size, config.head_size, 3, activation="relu")
    return nn.Sequential(nn.Conv2d(in_size, config.head_size, 3, padding=1), nn.ReLU())


def convolutions(config: MaskRcnnConfig, count: int) -> nn.ModuleList:
    """Make the convolutions of a head."""
    return nn.ModuleList(
        convolution(config, config.head_size if index else config.pyramid_size) for index in range(count)
    )


class ProposalHead(nn.Module):
    """Region proposal network: whether each anchor belongs to an object, and the offsets to its box."""

    def __init__(self, config: MaskRcnnConfig):
        super().__init__()
        size = config.pyramid_size
        self.convolutions = nn.ModuleList(
            predicts(nn.Conv2d(size, size, 3, padding=1), std=0.01) for _ in range(config.proposal_num_layers)
        )
        self.objectness = predicts(nn.Conv2d(size, config.num_anchors, 1), std=0.01)
        self.offsets = predicts(nn.Conv2d(size, config.num_anchors * 4, 1), std=0.01)

    def forward(self, feature_map: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map (batch, pyramid_size, rows, columns) to logits and offsets of the anchors of each cell.

        Returns:
            (batch, anchors, rows, columns) and (batch, 4 * anchors, rows, columns).
        """
        for layer in self.convolutions:
            feature_map = F.relu(layer(feature_map))
        return self.objectness(feature_map), self.offsets(feature_map)


class BoxHead(nn.Module):
    """Class and box of a region."""

    def __init__(self, config: MaskRcnnConfig):
        super().__init__()
        self.convolutions = convolutions(config, config.box_num_convolutions)
        channels = config.head_size if config.box_num_convolutions else config.pyramid_size
        sizes = [channels * config.box_pool_size**2, *[config.box_linear_size] * config.box_num_linear]
        self.linear = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(sizes))
        num_boxes = 1 if config.class_agnostic_boxes else config.num_labels
        self.classifier = predicts(nn.Linear(sizes[-1], config.num_labels + 1), std=0.01)
        self.offsets = predicts(nn.Linear(sizes[-1], num_boxes * 4), std=0.001)

    def forward(self, regions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map features (n, channels, rows, columns) of regions to logits and offsets.

        Returns:
            Logits (n, num_labels + 1), the background last, and offsets (n, 4), or (n, 4 * num_labels) with a box for
            each class.
        """
        for layer in self.convolutions:
            regions = layer(regions)
        features = regions.flatten(1)
        for layer in self.linear:
            features = F.relu(layer(features))
        return self.classifier(features), self.offsets(features)


class MaskHead(nn.Module):
    """Masks of a region, one for each class."""

    def __init__(self, config: MaskRcnnConfig):
        super().__init__()
        self.convolutions = convolutions(config, config.mask_num_convolutions)
        channels = config.head_size if config.mask_num_convolutions else config.pyramid_size
        self.enlargement = nn.ConvTranspose2d(channels, config.head_size, 2, stride=2)
        self.prediction = predicts(nn.Conv2d(config.head_size, config.num_labels, 1), std=0.001)

    def forward(self, regions: torch.Tensor) -> torch.Tensor:
        """Map features (n, channels, rows, columns) of regions to logits (n, num_labels, 2 rows, 2 columns)."""
        for layer in self.convolutions:
            regions = layer(regions)
        return self.prediction(F.relu(self.enlargement(regions)))


def zero_of(*modules: nn.Module) -> torch.Tensor:
    """Return 0 that depends on all parameters, so that all have a gradient where there is nothing to train on."""
    return torch.stack([parameter.sum() * 0 for module in modules for parameter in module.parameters()]).sum()


class MaskRcnnForObjectDetection(DetectorPreTrainedModel):
    """Faster R-CNN or Cascade R-CNN over any backbone: Mask R-CNN without masks."""

    config_class = MaskRcnnConfig
    _keys_to_ignore_on_load_unexpected = [r"^mask_head\."]

    def __init__(self, config: MaskRcnnConfig):
        super().__init__(config)
        self.make_parts(config)
        self.post_init()

    def make_parts(self, config: MaskRcnnConfig) -> None:
        """Make the submodules."""
        self.make_pyramid(config, "pool")
        self.proposal_head = ProposalHead(config)
        self.box_pooling = RegionPooling(config.box_pool_size, list(config.feature_strides))
        self.box_heads = nn.ModuleList(BoxHead(config) for _ in range(config.num_stages))

    def label_rows(self, order: Sequence[int]) -> dict[str, torch.Tensor]:
        """Return the rows of the heads: the background is the last class, and a box has four rows."""
        classes, rows = torch.tensor(order), {}
        for stage in range(self.config.num_stages):
            rows[f"box_heads.{stage}.classifier"] = torch.cat([classes, torch.tensor([self.num_labels])])
            if not self.config.class_agnostic_boxes:
                rows[f"box_heads.{stage}.offsets"] = (4 * classes[:, None] + torch.arange(4)).flatten()
        if self.needs_masks:
            rows["mask_head.prediction"] = classes
        return {f"{layer}.{name}": value for layer, value in rows.items() for name in ("weight", "bias")}

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        pixel_mask: torch.Tensor | None = None,
        labels: Labels | None = None,
        **kwargs,
    ) -> DetectionOutput:
        """Detect objects.

        Args:
            pixel_values: (batch, num_channels, height, width), normalised by the image processor.
            pixel_mask: (batch, height, width), 1 inside the images, 0 right of and below them; None: no padding.
            labels: for each image a dict of its objects: `boxes`, floats (n, 4), corners (x0, y0, x1, y1) in pixels of
                `pixel_values`, `class_labels` (n,) and, for instance segmentation, `masks` (n, height, width) in the
                size of `pixel_values`. With them the loss is computed; in training, nothing else.
        """
        sizes = self.image_sizes(pixel_values, pixel_mask)
        levels = self.backbone(pixel_values)
        anchors = self.anchors(levels)
        predictions = [self.proposal_head(level) for level in levels]
        objectness = [per_anchor(logits, 1).squeeze(2) for logits, _ in predictions]
        offsets = [per_anchor(parts, 4) for _, parts in predictions]
        # The last level is of proposals alone.
        levels, output = levels[: len(self.config.feature_strides)], DetectionOutput(image_sizes=sizes)
        objects = None if labels is None else self.check_objects(labels, pixel_values)
        losses = {}
        if objects is not None:
            losses |= self.proposal_losses(
                torch.cat(anchors), torch.cat(objectness, 1), torch.cat(offsets, 1), objects
            )
        proposals = self.propose(anchors, objectness, offsets, sizes)
        if objects is not None:
            output.loss_dict = losses | self.region_losses(levels, proposals, sizes, objects)
            output.loss = torch.stack(list(output.loss_dict.values())).sum()
        if objects is None or not self.training:
            self.detect(levels, proposals, sizes, output)
        return output

    def proposal_losses(
        self, anchors: torch.Tensor, objectness: torch.Tensor, offsets: torch.Tensor, objects: Labels
    ) -> dict[str, torch.Tensor]:
        """Return the losses of the region proposal network, on anchors that are drawn.

        Args:
            anchors: (anchors, 4).
            objectness: (batch, anchors).
            offsets: (batch, anchors, 4).
        """
        config = self.config
        kinds, targets = zip(*(self.label_anchors(anchors, part["boxes"]) for part in objects), strict=True)
        kinds, targets = torch.stack(kinds), torch.stack(targets)
        is_used, is_positive = kinds != IGNORED, kinds == POSITIVE
        classes = F.binary_cross_entropy_with_logits(
            objectness[is_used].float(), kinds[is_used].float(), reduction="sum"
        )
        positive = anchors.expand_as(targets)[is_positive]
        wanted = encode_boxes(targets[is_positive], positive, WEIGHTS)
        boxes = l1_loss(offsets[is_positive], wanted, config.smooth_l1_beta)
        count = config.anchors_per_image * len(objects)
        return {"loss_objectness": classes / count, "loss_proposals": boxes / count}

    @torch.no_grad()
    def label_anchors(self, anchors: torch.Tensor, boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return for each anchor whether it is POSITIVE or NEGATIVE, if it was drawn, else IGNORED, and its box."""
        config = self.config
        matches, kinds = match(overlaps(boxes, anchors), *config.anchor_thresholds, keep_best=True)
        positive, negative = sample(kinds, config.anchors_per_image, config.positive_anchors, NEGATIVE, self.training)
        drawn = torch.full_like(kinds, IGNORED)
        drawn[positive], drawn[negative] = POSITIVE, NEGATIVE
        return drawn, boxes[matches] if len(boxes) else torch.zeros_like(anchors)

    @torch.no_grad()
    def propose(
        self,
        anchors: list[torch.Tensor],
        objectness: list[torch.Tensor],
        offsets: list[torch.Tensor],
        sizes: torch.Tensor,
    ) -> list[torch.Tensor]:
        """Return the proposals (n, 4) of each image, by falling objectness.

        Args:
            anchors, objectness, offsets: of each level, (anchors, 4), (batch, anchors) and (batch, anchors, 4).

        Raises:
            FloatingPointError: in training, a box or score is not finite.
        """
        config, training = self.config, self.training
        max_candidates = config.train_max_candidates if training else config.max_candidates
        boxes, scores, groups = [], [], []
        for level, (places, logits, parts) in enumerate(zip(anchors, objectness, offsets, strict=True)):
            best, indices = logits.topk(min(logits.shape[1], max_candidates), dim=1)
            chosen = parts.gather(1, indices[:, :, None].expand(-1, -1, 4))
            decoded = decode_boxes(chosen.flatten(0, 1), places[indices].flatten(0, 1), WEIGHTS)
            boxes.append(decoded.unflatten(0, indices.shape))
            scores.append(best)
            groups.append(torch.full_like(indices[0], level))
        boxes, scores, groups = torch.cat(boxes, 1), torch.cat(scores, 1), torch.cat(groups)
        is_valid = torch.isfinite(boxes).all(2) & torch.isfinite(scores)
        if training and not bool(is_valid.all()):
            raise FloatingPointError("proposals are not finite: the training has diverged, try a lower learning rate")
        proposals = []
        for image, size in enumerate(sizes):
            clipped = clip_boxes(boxes[image], size)
            (kept,) = torch.nonzero(is_valid[image] & are_filled(clipped), as_tuple=True)
            found = kept[suppress(clipped[kept], scores[image][kept], groups[kept], config.proposal_nms_threshold)]
            proposals.append(clipped[found[: config.train_max_proposals if training else config.max_proposals]])
        return proposals

    def region_losses(
        self, levels: list[torch.Tensor], proposals: list[torch.Tensor], sizes: torch.Tensor, objects: Labels
    ) -> dict[str, torch.Tensor]:
        """Return the losses of the heads on proposals (n, 4) of each image, of which some are drawn."""
        regions = [self.draw(boxes, part) for boxes, part in zip(proposals, objects, strict=True)]
        losses, first, refined = {}, regions, ()
        for stage, head in enumerate(self.box_heads):
            if stage:
                regions = [
                    self.label_regions(places[are_filled(places)], part, stage)
                    for places, part in zip(self.refine(refined, sizes), objects, strict=True)
                ]
            places = [part.boxes for part in regions]
            logits, offsets = head(self.pooled_for_stage(levels, places))
            weights = tuple(self.config.stage_weights[stage])
            name = f"_stage{stage + 1}" if self.config.num_stages > 1 else ""
            classes, box = self.box_losses(logits, offsets, regions, objects, weights)
            losses |= {f"loss_classes{name}": classes, f"loss_boxes{name}": box}
            if stage + 1 < self.config.num_stages:
                decoded = decode_boxes(offsets.detach(), torch.cat(places), weights)
                refined = decoded.split([len(part) for part in places])
        return losses | self.mask_losses(levels, first, objects)

    def pooled_for_stage(self, levels: list[torch.Tensor], boxes: list[torch.Tensor]) -> torch.Tensor:
        """Return the features of boxes, whose gradients are divided by the number of stages."""
        pooled, count = self.box_pooling(levels, boxes), self.config.num_stages
        if count > 1 and pooled.requires_grad:
            pooled.register_hook(lambda gradient: gradient / count)
        return pooled

    @torch.no_grad()
    def draw(self, proposals: torch.Tensor, objects: dict[str, torch.Tensor]) -> Regions:
        """Draw regions for the loss from an image's proposals (n, 4) and from its objects' own boxes."""
        config = self.config
        regions = self.label_regions(torch.cat([proposals, objects["boxes"]]), objects, 0)
        drawn = torch.cat(
            sample(regions.labels, config.regions_per_image, config.positive_regions, self.num_labels, self.training)
        )
        return Regions(*(part[drawn] for part in regions))

    @torch.no_grad()
    def label_regions(self, boxes: torch.Tensor, objects: dict[str, torch.Tensor], stage: int) -> Regions:
        """Assign boxes (n, 4) of an image to its objects, by the overlap that a stage needs."""
        threshold = self.config.stage_thresholds[stage]
        matches, kinds = match(overlaps(objects["boxes"], boxes), threshold, threshold)
        background = torch.full_like(matches, self.num_labels)
        labels = objects["class_labels"][matches] if len(objects["boxes"]) else background
        return Regions(boxes, torch.where(kinds == NEGATIVE, background, labels), matches)

    def refine(self, boxes: tuple[torch.Tensor, ...], sizes: torch.Tensor) -> list[torch.Tensor]:
        """Return boxes (n, 4) of each image that a stage predicted as the next stage takes them, inside the image."""
        return [clip_boxes(part, size) for part, size in zip(boxes, sizes, strict=True)]

    def box_losses(
        self,
        logits: torch.Tensor,
        offsets: torch.Tensor,
        regions: list[Regions],
        objects: Labels,
        weights: tuple[float, ...],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the losses of classes and of boxes, both divided by the number of regions."""
        labels = torch.cat([part.labels for part in regions])
        if not len(labels):
            return logits.sum() * 0, offsets.sum() * 0
        boxes = torch.cat([part.boxes for part in regions])
        targets = torch.cat(
            [
                part["boxes"][region.matches] if len(part["boxes"]) else torch.zeros_like(region.boxes)
                for region, part in zip(regions, objects, strict=True)
            ]
        )
        (positive,) = torch.nonzero(labels != self.num_labels, as_tuple=True)
        predicted = offsets.unflatten(1, (-1, 4))[positive]
        classes = torch.zeros_like(labels[positive]) if self.config.class_agnostic_boxes else labels[positive]
        predicted = predicted[torch.arange(len(positive), device=positive.device), classes]
        wanted = encode_boxes(targets[positive], boxes[positive], weights)
        return F.cross_entropy(logits, labels), l1_loss(predicted, wanted, self.config.smooth_l1_beta) / len(labels)

    def mask_losses(
        self, levels: list[torch.Tensor], regions: list[Regions], objects: Labels
    ) -> dict[str, torch.Tensor]:
        """Return the loss of the masks: none, since there are no masks."""
        return {}

    @torch.no_grad()
    def detect(
        self, levels: list[torch.Tensor], proposals: list[torch.Tensor], sizes: torch.Tensor, output: DetectionOutput
    ) -> None:
        """Fill `output` with the detections, padded."""
        counts, boxes, scores = [len(part) for part in proposals], proposals, []
        for stage, head in enumerate(self.box_heads):
            if stage:
                boxes = self.refine(boxes, sizes)
            logits, offsets = head(self.box_pooling(levels, boxes))
            boxes = decode_boxes(offsets, torch.cat(boxes), tuple(self.config.stage_weights[stage])).split(counts)
            scores.append(logits.softmax(dim=1))
        mean = torch.stack(scores).sum(0) * (1 / self.config.num_stages) if len(scores) > 1 else scores[0]
        found = [self.select(*parts) for parts in zip(boxes, mean.split(counts), sizes, strict=True)]
        scores, labels, boxes = zip(*found, strict=True)
        output.scores, output.pred_labels = self.padded(scores), self.padded(labels, -1)
        output.pred_boxes, output.pred_masks = self.padded(boxes), self.masks(levels, boxes, labels)

    def select(
        self, boxes: torch.Tensor, scores: torch.Tensor, size: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return scores, labels and boxes of an image's detections, by falling score.

        Args:
            boxes: (proposals, 4), or (proposals, 4 * num_labels) with a box for each class.
            scores: (proposals, num_labels + 1), the background last.
        """
        is_valid = torch.isfinite(boxes).all(1) & torch.isfinite(scores).all(1)
        boxes, scores = clip_boxes(boxes[is_valid].unflatten(1, (-1, 4)), size), scores[is_valid, :-1]
        indices, labels = torch.nonzero(scores > self.config.score_threshold, as_tuple=True)
        likely = scores[indices, labels]
        boxes = boxes[indices, torch.zeros_like(labels) if boxes.shape[1] == 1 else labels]
        kept = suppress(boxes, likely, labels, self.config.nms_threshold)[: self.config.max_detections]
        return likely[kept], labels[kept], boxes[kept]

    def masks(
        self, levels: list[torch.Tensor], boxes: tuple[torch.Tensor, ...], labels: tuple[torch.Tensor, ...]
    ) -> torch.Tensor | None:
        """Return the masks of detections: none."""
        return None


class MaskRcnnForInstanceSegmentation(MaskRcnnForObjectDetection):
    """Mask R-CNN or Cascade Mask R-CNN over any backbone."""

    needs_masks = True
    _keys_to_ignore_on_load_unexpected = None

    def make_parts(self, config: MaskRcnnConfig) -> None:
        super().make_parts(config)
        self.mask_pooling = RegionPooling(config.mask_pool_size, list(config.feature_strides))
        self.mask_head = MaskHead(config)

    def mask_losses(
        self, levels: list[torch.Tensor], regions: list[Regions], objects: Labels
    ) -> dict[str, torch.Tensor]:
        """Return the loss of the masks of regions that belong to an object, in the mask of its class."""
        boxes, targets, classes = [], [], []
        for region, part in zip(regions, objects, strict=True):
            positive = region.labels != self.num_labels
            boxes.append(region.boxes[positive])
            classes.append(region.labels[positive])
            if positive.any():
                masks = part["masks"][region.matches[positive]]
                targets.append(crop_masks(masks, boxes[-1], 2 * self.config.mask_pool_size))
        if not targets:
            return {"loss_masks": zero_of(self.mask_head)}
        logits, labels = self.mask_head(self.mask_pooling(levels, boxes)), torch.cat(classes)
        logits = logits[torch.arange(len(labels), device=labels.device), labels]
        loss = F.binary_cross_entropy_with_logits(logits, torch.cat(targets).to(logits.dtype))
        return {"loss_masks": loss}

    def masks(
        self, levels: list[torch.Tensor], boxes: tuple[torch.Tensor, ...], labels: tuple[torch.Tensor, ...]
    ) -> torch.Tensor:
        """Return the probabilities (batch, detections, rows, columns) of the detections' masks, padded."""
        logits = self.mask_head(self.mask_pooling(levels, list(boxes)))
        classes = torch.cat(labels)
        chosen = logits[torch.arange(len(classes), device=classes.device), classes].sigmoid()
        return self.padded(chosen.split([len(part) for part in boxes]))


__all__ = ["MaskRcnnForInstanceSegmentation", "MaskRcnnForObjectDetection"]
