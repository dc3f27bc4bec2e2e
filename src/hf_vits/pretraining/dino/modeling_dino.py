"""DINO: self-distillation without labels, over any backbone.

Caron et al., "Emerging Properties in Self-Supervised Vision Transformers", arXiv 2104.14294; facebookresearch/dino
(main_dino.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from ...objectives.dino import DINOLoss
from ..class_attention import class_attention_layer
from ..heads import DINOHead
from ..method import Column
from ..pictures import attention_columns, component_columns
from ..self_distillation import (
    Branch,
    SelfDistillationModel,
    as_list,
    check_views,
    pooled_features,
    teacher_config,
    views_first,
)
from .configuration_dino import DINOConfig


@dataclass
class DINOOutput(ModelOutput):
    """Output of DINO.

    loss: scalar.
    logits: (views, batch, num_prototypes) of the student, global views first.
    teacher_logits: (global views, batch, num_prototypes).
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    teacher_logits: torch.Tensor | None = None


class DINOForPreTraining(SelfDistillationModel):
    """DINO: the student predicts, from each view of an image, the teacher's output for the other views."""

    config_class = DINOConfig

    def __init__(self, config: DINOConfig):
        super().__init__(config)
        backbone_config = config.backbone_config
        in_features = backbone_config.pooler_size
        self.student = Branch(backbone_config, make_head(config, in_features))
        self.teacher = Branch(teacher_config(backbone_config), make_head(config, in_features))
        self.make_objectives(config)
        self.post_init()
        self.start_teacher()

    def make_objectives(self, config: DINOConfig) -> None:
        """Make the losses, and what a subclass has beside student and teacher."""
        self.objective = DINOLoss(
            config.num_prototypes, config.student_temperature, config.teacher_temperature, config.center_momentum
        )

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        local_pixel_values: torch.Tensor | Sequence[torch.Tensor] | None = None,
        **kwargs,
    ) -> DINOOutput:
        """Compute the loss of a batch. The backbone runs once per size of views, the head once for all.

        Args:
            pixel_values: (batch, global views, num_channels, height, width), two or more views, for student and
                teacher.
            local_pixel_values: (batch, local views, num_channels, height, width), for the student alone, or a list
                with such a tensor for each size.
        """
        check_views(pixel_values)
        batch, num_views = pixel_values.shape[:2]
        views = views_first(pixel_values)
        with torch.no_grad():
            teacher_logits = self.teacher.head(pooled_features(self.teacher.backbone, views))
        sizes = [views, *map(views_first, as_list(local_pixel_values, pixel_values))]
        logits = self.student.head(torch.cat(self.student_features(sizes))).unflatten(0, (-1, batch))
        teacher_logits = teacher_logits.unflatten(0, (num_views, batch))
        loss, _ = self.objective(logits, teacher_logits)
        return DINOOutput(loss=loss, logits=logits, teacher_logits=teacher_logits)

    def student_features(self, sizes: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return the student's features (views * batch, channels) of views of each size, global views first."""
        return [pooled_features(self.student.backbone, size) for size in sizes]

    def picture(self, pixel_values: torch.Tensor) -> list[Column]:
        """Return the class token's attention or, of a backbone without one, the components of patch features."""
        backbone = self.teacher.backbone
        columns_of = component_columns if class_attention_layer(backbone) is None else attention_columns
        return columns_of(backbone, pixel_values)


def make_head(config: DINOConfig, in_features: int) -> DINOHead:
    return DINOHead(
        in_features,
        config.num_prototypes,
        hidden_size=config.head_hidden_size,
        bottleneck_size=config.head_bottleneck_size,
        num_layers=config.num_head_layers,
        norm=config.head_norm,
        train_magnitude=config.train_magnitude,
    )


__all__ = ["DINOForPreTraining"]
