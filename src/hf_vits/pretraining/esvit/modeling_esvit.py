"""EsViT: self-distillation of views and of their regions.

Li et al., "Efficient Self-supervised Vision Transformers for Representation Learning", arXiv 2106.09785;
microsoft/esvit (main_esvit.py, models/).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedConfig
from transformers.utils.generic import can_return_tuple

from ...objectives.dino import DINOLoss
from ...objectives.esvit import EsViTLoss
from ..dino.modeling_dino import DINOOutput, make_head
from ..method import Column
from ..pictures import component_columns
from ..self_distillation import (
    Branch,
    SelfDistillationModel,
    as_list,
    check_views,
    pooled_features,
    teacher_config,
    views_first,
)
from .configuration_esvit import EsViTConfig


@dataclass
class EsViTOutput(DINOOutput):
    """Output of EsViT; the fields of `DINOOutput` refer to views. With regions there are also:

    view_loss, region_loss: the parts of the loss; the loss is their mean.
    """

    view_loss: torch.Tensor | None = None
    region_loss: torch.Tensor | None = None


class Regions(NamedTuple):
    """Regions (tokens of the backbone's last stage) of all crops of one size.

    features: backbone features (crops * batch, regions, channels).
    logits: outputs of the region head (crops * batch, regions, num_prototypes).
    """

    features: torch.Tensor
    logits: torch.Tensor


class EsViTBranch(Branch):
    """Student or teacher: a backbone, a head for views and, with `config.use_regions`, a head for regions."""

    def __init__(self, config: EsViTConfig, backbone_config: PreTrainedConfig):
        super().__init__(backbone_config, make_head(config, backbone_config.pooler_size))
        self.region_head = make_head(config, backbone_config.hidden_size) if config.use_regions else None

    def forward(self, sizes: Sequence[torch.Tensor]) -> tuple[torch.Tensor, list[Regions]]:
        """Return logits of views (crops * batch, num_prototypes), and the regions of each size, if there is a head.

        Args:
            sizes: (crops * batch, num_channels, height, width) for each size of crops. The backbone runs once per
                size, each head once for all.
        """
        if self.region_head is None:
            pooled = [pooled_features(self.backbone, crops) for crops in sizes]
            return self.head(torch.cat(pooled)), []
        outputs = [self.backbone(crops, return_dict=True) for crops in sizes]
        num_prefix_tokens = self.backbone.config.num_prefix_tokens
        features = [output.last_hidden_state[:, num_prefix_tokens:] for output in outputs]
        logits = self.region_head(torch.cat([tokens.flatten(0, 1) for tokens in features]))
        parts = logits.split([tokens.shape[0] * tokens.shape[1] for tokens in features])
        regions = [
            Regions(tokens, part.unflatten(0, tokens.shape[:2])) for tokens, part in zip(features, parts, strict=True)
        ]
        return self.head(torch.cat([output.pooler_output for output in outputs])), regions


class EsViTForPreTraining(SelfDistillationModel):
    """EsViT: DINO, and the student also predicts, for each region, the teacher's output of the best match."""

    config_class = EsViTConfig

    def __init__(self, config: EsViTConfig):
        super().__init__(config)
        self.student = EsViTBranch(config, config.backbone_config)
        self.teacher = EsViTBranch(config, teacher_config(config.backbone_config))
        objective = EsViTLoss if config.use_regions else DINOLoss
        self.objective = objective(
            config.num_prototypes, config.student_temperature, config.teacher_temperature, config.center_momentum
        )
        self.post_init()
        self.start_teacher()

    @classmethod
    def from_pretrained(cls, *args, output_loading_info: bool = False, **kwargs):
        """Load a model; `use_regions=True` adds new region heads to a model that was trained on views alone."""
        loaded: Any = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        model, info = loaded
        if any(key.startswith("teacher.region_head.") for key in info["missing_keys"]):
            # Both heads are new; the teacher's must start with the student's weights.
            model.teacher.region_head.load_state_dict(model.student.region_head.state_dict())
        return (model, info) if output_loading_info else model

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        local_pixel_values: torch.Tensor | Sequence[torch.Tensor] | None = None,
        mixing: torch.Tensor | None = None,
        **kwargs,
    ) -> EsViTOutput:
        """Compute the loss of a batch. The backbone runs once per size of views.

        Args:
            pixel_values: (batch, global views, num_channels, height, width), two or more views, for student and
                teacher.
            local_pixel_values: (batch, local views, num_channels, height, width), for the student alone, or a list
                with such a tensor for each size.
            mixing: as in `objectives.dino.cross_view_entropy`, if the student's images are mixed; not with regions.
        """
        check_views(pixel_values)
        if mixing is not None and self.config.use_regions:
            raise ValueError("regions of mixed images have no match: mixing needs use_regions=False")
        batch, num_views = pixel_values.shape[:2]
        views = views_first(pixel_values)
        with torch.no_grad():
            teacher_logits, teacher_regions = self.teacher([views])
        sizes = [views, *map(views_first, as_list(local_pixel_values, pixel_values))]
        logits, regions = self.student(sizes)
        logits = logits.unflatten(0, (-1, batch))
        teacher_logits = teacher_logits.unflatten(0, (num_views, batch))
        if self.config.use_regions:
            features, region_logits = (each_crop(tensors, batch) for tensors in zip(*regions, strict=True))
            teacher_features, teacher_region_logits = (
                tensor.unflatten(0, (num_views, batch)) for tensor in teacher_regions[0]
            )
            loss, logged = self.objective(
                logits, teacher_logits, region_logits, teacher_region_logits, features, teacher_features
            )
        else:
            loss, logged = self.objective(logits, teacher_logits, mixing)
        return EsViTOutput(loss=loss, logits=logits, teacher_logits=teacher_logits, **logged)

    @property
    def takes_mixed_views(self) -> bool:
        return not self.config.use_regions

    def picture(self, pixel_values: torch.Tensor) -> list[Column]:
        """Return the principal components of the teacher's patch features."""
        return component_columns(self.teacher.backbone, pixel_values)


def each_crop(sizes: Sequence[torch.Tensor], batch: int) -> list[torch.Tensor]:
    """Return (crops * batch, ...) of each size to (batch, ...) of each crop."""
    return [crop for size in sizes for crop in size.split(batch)]


__all__ = ["EsViTForPreTraining"]
