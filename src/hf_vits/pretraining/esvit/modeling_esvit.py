"""Self-distillation of whole views and of the regions in them.

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
    """Output of EsViT; the fields of `DINOOutput` are those of views, and with regions:

    view_loss, region_loss: the parts of the loss, which is their mean.
    """

    view_loss: torch.Tensor | None = None
    region_loss: torch.Tensor | None = None


class Regions(NamedTuple):
    """What a branch says of the regions of all crops of one size: the tokens of its backbone's last stage.

    features: (crops * batch, regions, channels).
    logits: (crops * batch, regions, num_prototypes).
    """

    features: torch.Tensor
    logits: torch.Tensor


class EsViTBranch(Branch):
    """A backbone, a head for views and, where the configuration asks for it, one for regions."""

    def __init__(self, config: EsViTConfig, backbone_config: PreTrainedConfig):
        super().__init__(backbone_config, make_head(config, backbone_config.pooler_size))
        self.region_head = make_head(config, backbone_config.hidden_size) if config.use_regions else None

    def forward(self, sizes: Sequence[torch.Tensor]) -> tuple[torch.Tensor, list[Regions]]:
        """Logits (all crops * batch, num_prototypes) of views, and the regions of each size, if there is a head.

        Args:
            sizes: (crops * batch, num_channels, height, width) of each size of crops; those of one size go through
                the backbone together, all features through a head together.
        """
        if self.region_head is None:
            pooled = [pooled_features(self.backbone, crops) for crops in sizes]
            return self.head(torch.cat(pooled)), []
        outputs = [self.backbone(crops) for crops in sizes]
        num_prefix_tokens = self.backbone.config.num_prefix_tokens
        features = [output.last_hidden_state[:, num_prefix_tokens:] for output in outputs]
        logits = self.region_head(torch.cat([tokens.flatten(0, 1) for tokens in features]))
        parts = logits.split([tokens.shape[0] * tokens.shape[1] for tokens in features])
        regions = [
            Regions(tokens, part.unflatten(0, tokens.shape[:2])) for tokens, part in zip(features, parts, strict=True)
        ]
        return self.head(torch.cat([output.pooler_output for output in outputs])), regions


class EsViTForPreTraining(SelfDistillationModel):
    """DINO whose student also predicts, for every region of a view, what its teacher sees where it looks alike."""

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
        """As everywhere; with `use_regions=True` training goes on with regions from what learnt from views alone."""
        loaded: Any = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        model, info = loaded
        if any(key.startswith("teacher.region_head.") for key in info["missing_keys"]):
            # Each was made anew, and a teacher starts as its student does.
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
        """Loss of a batch. Views of one size go through the backbone together.

        Args:
            pixel_values: (batch, global views, num_channels, height, width), two or more; the teacher sees these.
            local_pixel_values: (batch, local views, num_channels, height, width) that the student alone sees, or one
                such tensor for each of several sizes.
            mixing: as in `objectives.dino.cross_view_entropy`, where images of the batch are mixed up for the student;
                not with regions.
        """
        check_views(pixel_values)
        if mixing is not None and self.config.use_regions:
            raise ValueError("regions of mixed images have no match: mixing needs use_regions=False")
        batch, num_views = pixel_values.shape[:2]
        views = views_first(pixel_values)
        with torch.no_grad():
            teacher_logits, teacher_regions = self.teacher([views])
        sizes = [views, *map(views_first, as_list(local_pixel_values))]
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


def each_crop(sizes: Sequence[torch.Tensor], batch: int) -> list[torch.Tensor]:
    """(crops * batch, ...) of each size to (batch, ...) of each crop."""
    return [crop for size in sizes for crop in size.split(batch)]


__all__ = ["EsViTForPreTraining"]
