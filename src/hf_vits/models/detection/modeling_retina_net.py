"""RetinaNet: a class and a box for each anchor of a feature pyramid, trained with the focal loss.

Lin et al., "Focal Loss for Dense Object Detection", arXiv 1708.02002; detectron2
(detectron2/modeling/meta_arch/retinanet.py, dense_detector.py).
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss
from transformers.utils.generic import can_return_tuple

from ...layers.anchors import per_anchor
from ...layers.boxes import IGNORED, NEGATIVE, decode_boxes, encode_boxes, l1_loss, match, overlaps, suppress
from .configuration_retina_net import RetinaNetConfig
from .modeling_detection import DetectionOutput, DetectorPreTrainedModel, Labels, LossNormalizer, predicts

# By what the offsets of boxes are multiplied.
WEIGHTS = (1.0, 1.0, 1.0, 1.0)


class RetinaNetBranch(nn.Module):
    """3x3 convolutions with ReLU, then one that predicts `out_size` values at each position."""

    def __init__(self, config: RetinaNetConfig, out_size: int, prior_probability: float | None = None):
        super().__init__()
        size = config.pyramid_size
        self.convolutions = nn.ModuleList(
            predicts(nn.Conv2d(size, size, 3, padding=1), std=0.01) for _ in range(config.head_num_layers)
        )
        self.prediction = predicts(nn.Conv2d(size, out_size, 3, padding=1), 0.01, prior_probability)

    def forward(self, feature_map: torch.Tensor) -> torch.Tensor:
        """Map (batch, pyramid_size, rows, columns) to (batch, out_size, rows, columns)."""
        for convolution in self.convolutions:
            feature_map = F.relu(convolution(feature_map))
        return self.prediction(feature_map)


class RetinaNetForObjectDetection(DetectorPreTrainedModel):
    """RetinaNet over any backbone."""

    config_class = RetinaNetConfig

    def __init__(self, config: RetinaNetConfig):
        super().__init__(config)
        self.make_pyramid(config, "convolutions")
        self.classes = RetinaNetBranch(config, config.num_anchors * self.num_labels, config.prior_probability)
        self.boxes = RetinaNetBranch(config, config.num_anchors * 4)
        self.loss_normalizer = LossNormalizer()
        self.post_init()

    def label_rows(self, order: Sequence[int]) -> dict[str, torch.Tensor]:
        """Return the rows of the prediction of classes: of each anchor of a cell, one for each class."""
        first = self.num_labels * torch.arange(self.config.num_anchors)[:, None]
        rows = (first + torch.tensor(order)).flatten()
        return {f"classes.prediction.{name}": rows for name in ("weight", "bias")}

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
                `pixel_values`, and `class_labels` (n,). With them the loss is computed; in training, nothing else.
        """
        sizes = self.image_sizes(pixel_values, pixel_mask)
        levels = self.backbone(pixel_values)
        anchors = self.anchors(levels)
        logits = [per_anchor(self.classes(level), self.num_labels) for level in levels]
        offsets = [per_anchor(self.boxes(level), 4) for level in levels]
        output = DetectionOutput(image_sizes=sizes)
        if labels is not None:
            objects = self.check_objects(labels, pixel_values)
            output.loss_dict = self.losses(torch.cat(anchors), torch.cat(logits, 1), torch.cat(offsets, 1), objects)
            output.loss = torch.stack(list(output.loss_dict.values())).sum()
        if labels is None or not self.training:
            output.scores, output.pred_labels, output.pred_boxes = self.detect(anchors, logits, offsets)
        return output

    def losses(
        self, anchors: torch.Tensor, logits: torch.Tensor, offsets: torch.Tensor, objects: Labels
    ) -> dict[str, torch.Tensor]:
        """Return the losses of classes and boxes.

        Args:
            anchors: (anchors, 4).
            logits: (batch, anchors, num_labels).
            offsets: (batch, anchors, 4).
        """
        labels, targets = zip(*(self.label_anchors(anchors, part) for part in objects), strict=True)
        labels, targets = torch.stack(labels), torch.stack(targets)
        is_used, is_positive = labels != IGNORED, (labels != IGNORED) & (labels != self.num_labels)
        normalizer = self.loss_normalizer(is_positive.sum())
        wanted = F.one_hot(labels[is_used], self.num_labels + 1)[:, :-1].to(logits.dtype)
        classes = sigmoid_focal_loss(
            logits[is_used], wanted, self.config.focal_alpha, self.config.focal_gamma, reduction="sum"
        )
        positive = anchors.expand_as(targets)[is_positive]
        wanted = encode_boxes(targets[is_positive], positive, WEIGHTS)
        boxes = l1_loss(offsets[is_positive], wanted, self.config.smooth_l1_beta)
        return {"loss_classes": classes / normalizer, "loss_boxes": boxes / normalizer}

    @torch.no_grad()
    def label_anchors(
        self, anchors: torch.Tensor, objects: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return for each anchor its class, num_labels for the background or -1 to ignore it, and its box."""
        boxes, classes = objects["boxes"], objects["class_labels"]
        matches, kinds = match(overlaps(boxes, anchors), *self.config.anchor_thresholds, keep_best=True)
        if not len(boxes):
            return torch.full_like(matches, self.num_labels), torch.zeros_like(anchors)
        labels = classes[matches]
        labels[kinds == NEGATIVE] = self.num_labels
        labels[kinds == IGNORED] = IGNORED
        return labels, boxes[matches]

    @torch.no_grad()
    def detect(
        self, anchors: list[torch.Tensor], logits: list[torch.Tensor], offsets: list[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return scores (batch, detections), labels and boxes (batch, detections, 4), padded.

        Args:
            anchors, logits, offsets: of each level, (anchors, 4), (batch, anchors, num_labels), (batch, anchors, 4).
        """
        found = []
        for image in range(len(logits[0])):
            levels = [
                self.candidates(places, classes[image].sigmoid(), parts[image])
                for places, classes, parts in zip(anchors, logits, offsets, strict=True)
            ]
            scores, labels, boxes = (torch.cat(parts) for parts in zip(*levels, strict=True))
            kept = suppress(boxes, scores, labels, self.config.nms_threshold)[: self.config.max_detections]
            found.append((scores[kept], labels[kept], boxes[kept]))
        scores, labels, boxes = zip(*found, strict=True)
        return self.padded(scores), self.padded(labels, -1), self.padded(boxes)

    def candidates(
        self, anchors: torch.Tensor, scores: torch.Tensor, offsets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return scores (n,), labels (n,) and boxes (n, 4) of the best candidates of a level."""
        is_likely = scores > self.config.score_threshold
        places, likely = torch.nonzero(is_likely), scores[is_likely]
        likely, order = likely.topk(min(len(likely), self.config.max_candidates))
        indices, labels = places[order].unbind(dim=1)
        return likely, labels, decode_boxes(offsets[indices], anchors[indices], WEIGHTS)


__all__ = ["RetinaNetForObjectDetection"]
