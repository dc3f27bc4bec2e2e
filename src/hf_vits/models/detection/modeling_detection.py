"""What all detectors share: the backbone with its feature pyramid, checks of labels, outputs and initialisation."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoBackbone
from transformers import initialization as init
from transformers.utils import ModelOutput

from ...layers.anchors import Anchors
from ...layers.feature_pyramid import FeaturePyramid
from ...layers.patch import check_pixel_values
from ...modeling import VitsPreTrainedModel
from .configuration_detection import DetectorConfig

# Objects of an image: {"boxes": (n, 4), "class_labels": (n,), "masks": (n, height, width)}.
Labels = list[dict[str, torch.Tensor]]


@dataclass
class DetectionOutput(ModelOutput):
    """Output of a detector. An image has `config.max_detections` detections, by falling score.

    loss: sum of `loss_dict`, if labels were given.
    loss_dict: {name: scalar} of each part of the loss.
    scores: (batch, detections), 0 beyond the last detection; None in training.
    pred_labels: (batch, detections), index of the class; -1 beyond the last detection.
    pred_boxes: (batch, detections, 4), corners (x0, y0, x1, y1) in pixels of `pixel_values`.
    pred_masks: (batch, detections, rows, columns), probability of the object in each part of its box; of models for
        instance segmentation.
    image_sizes: (batch, 2), height and width of the images in `pixel_values` without padding.
    """

    loss: torch.Tensor | None = None
    loss_dict: dict[str, torch.Tensor] | None = None
    scores: torch.Tensor | None = None
    pred_labels: torch.Tensor | None = None
    pred_boxes: torch.Tensor | None = None
    pred_masks: torch.Tensor | None = None
    image_sizes: torch.Tensor | None = None


class PyramidBackbone(nn.Module):
    """A backbone, then a feature pyramid.

    Args:
        coarser: see `FeaturePyramid`.
    """

    def __init__(self, config: DetectorConfig, coarser: str):
        super().__init__()
        self.strides = list(config.feature_strides)
        self.model = AutoBackbone.from_config(config.backbone_config)
        channels = list(self.model.channels)
        if len(channels) != len(self.strides):
            raise ValueError(
                f"feature_strides needs a value for each of the {len(channels)} feature maps of the backbone "
                f"({', '.join(self.model.out_features)}), got feature_strides={self.strides}: choose maps by "
                "out_features of backbone_config"
            )
        self.pyramid = FeaturePyramid(channels, config.pyramid_size, coarser)
        for layer in self.pyramid.modules():
            layer.is_pyramid = True

    def forward(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        """Map images (batch, channels, height, width) to the levels of the pyramid, from fine to coarse.

        Images are padded with zeros, right and at the bottom, to a multiple of the largest stride.
        """
        height, width = pixel_values.shape[-2:]
        largest = self.strides[-1]
        pixel_values = F.pad(pixel_values, (0, -width % largest, 0, -height % largest))
        maps = self.model(pixel_values, return_dict=True).feature_maps
        for stride, feature_map in zip(self.strides, maps, strict=True):
            expected = tuple(side // stride for side in pixel_values.shape[-2:])
            if tuple(feature_map.shape[-2:]) != expected:
                raise ValueError(
                    f"feature_strides={self.strides} are not those of the backbone: of an image of "
                    f"{tuple(pixel_values.shape[-2:])} pixels, the map of stride {stride} is "
                    f"{tuple(feature_map.shape[-2:])}, not {expected}"
                )
        return self.pyramid(maps)


class DetectorPreTrainedModel(VitsPreTrainedModel):
    """Base class of detectors."""

    # The number of detections, and so the sizes of tensors, depend on values.
    _can_compile_fullgraph = False
    _can_record_outputs = {}
    needs_masks = False

    def make_pyramid(self, config: DetectorConfig, coarser: str) -> None:
        """Make the parts that every detector has."""
        self.num_labels: int = len(config.id2label or {})
        self.backbone = PyramidBackbone(config, coarser)
        sizes = [list(row) for row in config.anchor_sizes]
        self.anchors = Anchors(sizes, list(config.anchor_ratios), config.level_strides)

    @property
    def needs_package(self) -> bool:
        """Return whether its code on the Hub needs hf_vits: where the backbone is one of hf_vits."""
        return self.config.backbone_config.model_type.startswith("hf_vits_")

    def get_input_embeddings(self) -> nn.Module:
        """Return the backbone's embedding of patches."""
        return self.backbone.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the backbone's embedding of patches."""
        self.backbone.model.set_input_embeddings(value)

    def image_sizes(self, pixel_values: torch.Tensor, pixel_mask: torch.Tensor | None) -> torch.Tensor:
        """Return (batch, 2): height and width of each image without padding.

        Args:
            pixel_mask: (batch, height, width), 1 inside the images, 0 right of and below them; None: no padding.
        """
        check_pixel_values(pixel_values, getattr(self.config.backbone_config, "num_channels", 3))
        if pixel_mask is None:
            size = torch.tensor(pixel_values.shape[-2:], device=pixel_values.device)
            return size.repeat(len(pixel_values), 1)
        expected = (pixel_values.shape[0], *pixel_values.shape[-2:])
        if tuple(pixel_mask.shape) != expected:
            raise ValueError(
                f"pixel_mask must be {expected}, 1 inside the images and 0 right of and below them, got shape "
                f"{tuple(pixel_mask.shape)}"
            )
        return torch.stack([pixel_mask[:, :, 0].sum(1), pixel_mask[:, 0].sum(1)], dim=1).long()

    def check_objects(self, labels: Labels, pixel_values: torch.Tensor) -> Labels:
        """Return the labels on the device of the images; TypeError or ValueError that names what does not fit."""
        if not isinstance(labels, list | tuple) or not all(hasattr(objects, "keys") for objects in labels):
            raise TypeError(f"labels must be a list of a dict for each image, got {type(labels).__name__}")
        if len(labels) != len(pixel_values):
            raise ValueError(f"labels must be {len(pixel_values)} dicts, one for each image, got {len(labels)}")
        needed = ("boxes", "class_labels", "masks")[: 3 if self.needs_masks else 2]
        checked = []
        for index, objects in enumerate(labels):
            if missing := [name for name in needed if name not in objects]:
                raise ValueError(
                    f"labels[{index}] needs {', '.join(needed)}, has no {missing[0]}: only {', '.join(objects)}"
                )
            boxes, classes = objects["boxes"], objects["class_labels"]
            if boxes.ndim != 2 or boxes.shape[1] != 4 or classes.shape != boxes.shape[:1]:
                raise ValueError(
                    f"labels[{index}] must have boxes (n, 4) and class_labels (n,), got {tuple(boxes.shape)} and "
                    f"{tuple(classes.shape)}"
                )
            if not boxes.is_floating_point() or classes.dtype != torch.int64:
                raise TypeError(
                    f"labels[{index}] must have boxes of floats and class_labels of torch.int64, got {boxes.dtype} "
                    f"and {classes.dtype}"
                )
            if len(classes) and not 0 <= int(classes.min()) <= int(classes.max()) < self.num_labels:
                raise ValueError(
                    f"class_labels must lie in [0, {self.num_labels}), got {sorted(set(classes.tolist()))} in "
                    f"labels[{index}]"
                )
            # A comparison with NaN is false.
            if not bool((boxes[:, 2:] > boxes[:, :2]).all() & torch.isfinite(boxes).all()):
                raise ValueError(
                    f"boxes must be corners (x0, y0, x1, y1) in pixels with x0 < x1 and y0 < y1, got "
                    f"{boxes.tolist()[:5]} in labels[{index}]"
                )
            masks = objects.get("masks")
            if self.needs_masks and tuple(masks.shape) != (len(boxes), *pixel_values.shape[-2:]):
                raise ValueError(
                    f"masks must be {(len(boxes), *pixel_values.shape[-2:])}, one for each box, got "
                    f"{tuple(masks.shape)} in labels[{index}]"
                )
            checked.append(
                {
                    "boxes": boxes.to(pixel_values.device, torch.float32),
                    "class_labels": classes.to(pixel_values.device),
                    **({"masks": masks.to(pixel_values.device)} if self.needs_masks else {}),
                }
            )
        return checked

    def padded(self, parts: list[torch.Tensor], value: float = 0) -> torch.Tensor:
        """Stack (n, ...) of each image to (batch, max_detections, ...), filled with `value`."""
        size = self.config.max_detections
        return torch.stack(
            [F.pad(part, (0, 0) * (part.ndim - 1) + (0, size - len(part)), value=value) for part in parts]
        )

    def label_rows(self, order: Sequence[int]) -> dict[str, torch.Tensor]:
        """Return for each weight with rows for classes, by name, the rows that bring its classes into this order."""
        raise NotImplementedError

    @torch.no_grad()
    def _init_weights(self, module):
        """Initialise as detectron2: the convolutions of the pyramid and the linear layers uniform (Xavier, as Caffe2).

        What predicts is normal with the standard deviation of its `initial_std`; other convolutions of the heads are
        normal (He, by output channels). The backbone initialises itself.
        """
        if isinstance(module, LossNormalizer):
            init.constant_(module.value, module.initial_value)
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            self.init_layer(module)
        else:
            super()._init_weights(module)

    def init_layer(self, layer: nn.Module) -> None:
        """Initialise a convolution or a linear layer of pyramid and heads."""
        std, prior = getattr(layer, "initial_std", None), getattr(layer, "prior_probability", None)
        if std is not None:
            init.normal_(layer.weight, std=std)
        elif isinstance(layer, nn.Linear) or getattr(layer, "is_pyramid", False):
            init.kaiming_uniform_(layer.weight, a=1)
        else:
            init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        if layer.bias is not None:
            init.constant_(layer.bias, 0.0 if prior is None else -log((1 - prior) / prior))


class LossNormalizer(nn.Module):
    """Moving average of the number of positive anchors, by which RetinaNet's loss is divided.

    It is saved with the model, so that training resumes exactly; detectron2 begins again at `initial_value`.
    """

    initial_value, momentum = 100.0, 0.9
    value: torch.Tensor

    def __init__(self):
        super().__init__()
        self.register_buffer("value", torch.tensor(self.initial_value))

    def forward(self, count: torch.Tensor) -> torch.Tensor:
        """Return the average after a batch with `count` positive anchors; in training it is kept."""
        value = self.value * self.momentum + count.clamp(min=1) * (1 - self.momentum)
        if self.training:
            self.value.copy_(value.detach())
        return value


def predicts(layer: nn.Module, std: float, prior_probability: float | None = None) -> nn.Module:
    """Mark a layer as one that predicts, with the standard deviation and the prior of its initialisation."""
    layer.initial_std, layer.prior_probability = std, prior_probability
    return layer


__all__ = ["DetectionOutput", "DetectorPreTrainedModel"]
