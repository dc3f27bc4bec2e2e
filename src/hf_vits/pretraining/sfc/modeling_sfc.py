"""SFC's fine-grained correspondence: cells of two crops that show the same place predict one another.

Hu et al., "Semantic-Aware Fine-Grained Correspondence", arXiv 2207.10456; Alxead/SFC (models/fine_grained.py).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from ...layers.convolution import to_map
from ...layers.patch import square_grid
from ...objectives.sfc import CorrespondenceLoss
from ..method import Column
from ..pictures import component_columns
from ..self_distillation import Branch, SelfDistillationModel, check_views, teacher_config
from .configuration_sfc import SFCConfig


@dataclass
class SFCOutput(ModelOutput):
    """Output of fine-grained correspondence.

    loss: scalar.
    logits: (2, batch, projection_size, rows, columns), the student's predictions for the two views, of length 1.
    teacher_logits: the same of the teacher's projections.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    teacher_logits: torch.Tensor | None = None


def make_mlp(in_features: int, hidden_size: int, out_features: int) -> nn.Sequential:
    """Make a projector or predictor: 1x1 convolutions with batch norm and ReLU between them."""
    return nn.Sequential(
        nn.Conv2d(in_features, hidden_size, 1),
        nn.BatchNorm2d(hidden_size),
        nn.ReLU(),
        nn.Conv2d(hidden_size, out_features, 1),
    )


class SFCBranch(Branch):
    """Student or teacher: a backbone, a projector and, of the student, a predictor."""

    def __init__(self, config: SFCConfig, backbone_config: PreTrainedConfig, predicts: bool):
        size = config.projection_size
        super().__init__(backbone_config, make_mlp(backbone_config.hidden_size, config.projection_hidden_size, size))
        self.predictor = make_mlp(size, config.prediction_hidden_size, size) if predicts else None

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Map images (batch, num_channels, height, width) to maps (batch, projection_size, rows, columns) of length 1.

        The length is over the channels.
        """
        tokens = self.backbone(pixel_values, return_dict=True).last_hidden_state
        tokens = tokens[:, self.backbone.config.num_prefix_tokens :]
        projected = self.head(to_map(tokens, square_grid(tokens.shape[1], pixel_values.shape[-2:])))
        if self.predictor is not None:
            projected = self.predictor(projected)
        return nn.functional.normalize(projected, dim=1)


class SFCForPreTraining(SelfDistillationModel):
    """Fine-grained correspondence: the student predicts, in each cell of a crop, the teacher's output of the cells of
    another crop that show the same place.

    As in the original, the teacher's batch norms see the batch, and the teacher moves before each forward pass.
    """

    config_class = SFCConfig
    needs_view_boxes = True
    teacher_moves_first = True

    def __init__(self, config: SFCConfig):
        super().__init__(config)
        self.student = SFCBranch(config, config.backbone_config, predicts=True)
        self.teacher = SFCBranch(config, teacher_config(config.backbone_config), predicts=False)
        self.objective = CorrespondenceLoss(config.positive_radius)
        self.post_init()
        self.start_teacher()

    def check_number_of_views(self, num_global: int, num_local: int) -> None:
        if (num_global, num_local) != (2, 0):
            raise ValueError(
                "fine-grained correspondence compares two views: set views.num_global to 2 and views.num_local to 0, "
                f"got {num_global} and {num_local}"
            )

    @can_return_tuple
    def forward(
        self, pixel_values: torch.Tensor | None = None, view_boxes: torch.Tensor | None = None, **kwargs
    ) -> SFCOutput:
        """Compute the loss of a batch.

        Args:
            pixel_values: (batch, 2, num_channels, height, width), two crops of each image.
            view_boxes: (batch, 2, 4), left, top, right and bottom of each crop as fractions of the image's width and
                height.
        """
        check_views(pixel_values)
        expected = (pixel_values.shape[0], 2, 4)
        if pixel_values.shape[1] != 2:
            raise ValueError(f"pixel_values must be two views of each image, got {pixel_values.shape[1]}")
        if view_boxes is None or view_boxes.shape != expected:
            found = None if view_boxes is None else tuple(view_boxes.shape)
            raise ValueError(f"view_boxes must be (batch, 2, 4) = {expected}, got {found}")
        views, boxes = pixel_values.unbind(dim=1), view_boxes.unbind(dim=1)
        with torch.no_grad():
            targets = [self.teacher(view) for view in views]
        # One view after the other: the batch norms see them apart, as in the original.
        predictions = [self.student(view) for view in views]
        loss, _ = self.objective(predictions[0], targets[1], *boxes)
        other_loss, _ = self.objective(predictions[1], targets[0], *reversed(boxes))
        return SFCOutput(loss=loss + other_loss, logits=torch.stack(predictions), teacher_logits=torch.stack(targets))

    def picture(self, pixel_values: torch.Tensor) -> list[Column]:
        """Return the principal components of the student's features."""
        return component_columns(self.student.backbone, pixel_values)

    def export(self, branch: Literal["teacher", "student"] = "student") -> PreTrainedModel:
        """Return a copy of the student's backbone, which the original evaluates, or of the teacher's."""
        return super().export(branch)


__all__ = ["SFCForPreTraining"]
