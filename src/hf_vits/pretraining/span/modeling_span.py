"""SPAN: DINO whose heads are guided by spatial priors.

Miao et al., "Prior Knowledge-Guided Attention in Self-Supervised Vision Transformers", arXiv 2209.03745. No code is
public; what is the paper's and what is chosen here is in the card.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers import initialization as init
from transformers.utils.generic import can_return_tuple

from ...objectives.priors import PriorAttentionLoss
from ..class_attention import LastAttention
from ..dino.modeling_dino import DINOForPreTraining, DINOOutput
from ..method import Column
from ..pictures import class_attention
from ..self_distillation import pooled_features, views_first
from .configuration_span import SPANConfig


@dataclass
class SPANOutput(DINOOutput):
    """Output of SPAN: that of DINO, and the parts of the loss.

    view_loss: DINO's loss.
    prior_loss: the loss of the priors before weighting; None with prior_weight=0.
    """

    view_loss: torch.Tensor | None = None
    prior_loss: torch.Tensor | None = None


class Priors(nn.Module):
    """The priors of a data set, which pictures show and which are saved with the model.

    Args:
        num_regions: number of priors.
        grid: (rows, columns) of patches.
    """

    maps: torch.Tensor

    def __init__(self, num_regions: int, grid: tuple[int, int]):
        super().__init__()
        self.register_buffer("maps", torch.zeros(num_regions, *grid))


class SPANForPreTraining(DINOForPreTraining):
    """DINO, and heads of the student's last layer whose attention follows the prior of a region each."""

    config_class = SPANConfig

    def make_objectives(self, config: SPANConfig) -> None:
        super().make_objectives(config)
        LastAttention(self.student.backbone)  # raises ValueError where there is no such attention
        size = config.backbone_config.image_size
        self.priors = Priors(config.num_regions, self.patch_grid((size, size) if isinstance(size, int) else size))
        self.prior_objective = PriorAttentionLoss(config.prior_loss)

    @torch.no_grad()
    def _init_weights(self, module):
        if isinstance(module, Priors):
            init.zeros_(module.maps)
        else:
            super()._init_weights(module)

    @property
    def recipe_sections(self) -> set[str]:
        return super().recipe_sections | {"priors"}

    def patch_grid(self, size: Sequence[int]) -> tuple[int, int]:
        """Return (rows, columns) of the patches of an image of `size` (height, width)."""
        return self.student.backbone.embeddings.grid(*size)

    @torch.no_grad()
    def set_priors(self, maps: torch.Tensor) -> None:
        """Keep the priors of a data set, (regions, height, width), averaged over patches, for pictures."""
        if maps.ndim != 3 or len(maps) != self.config.num_regions:
            raise ValueError(
                f"priors must be (regions, height, width), of num_regions={self.config.num_regions}, got "
                f"{tuple(maps.shape)}"
            )
        self.priors.maps.copy_(nn.functional.adaptive_avg_pool2d(maps, self.priors.maps.shape[1:]))

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        local_pixel_values: torch.Tensor | Sequence[torch.Tensor] | None = None,
        priors: torch.Tensor | None = None,
        prior_mass: torch.Tensor | None = None,
        **kwargs,
    ) -> SPANOutput:
        """Compute the loss of a batch.

        Args:
            pixel_values, local_pixel_values: as in `DINOForPreTraining`.
            priors: (batch, global views, regions, rows, columns), the priors in each view, cropped, resized and
                flipped as the image and averaged over patches; not read with prior_weight=0.
            prior_mass: (batch, global views, regions), fraction of each prior that lies in the view; None for 1.
        """
        guided = self.config.prior_weight != 0
        if guided and priors is None:
            raise ValueError(
                f"priors must come with every batch, (batch, views, {self.config.num_regions}, rows, columns), unless "
                "prior_weight=0"
            )
        self.attention: torch.Tensor | None = None
        outputs = super().forward(pixel_values, local_pixel_values, return_dict=True)
        if not guided:
            return SPANOutput(**outputs, view_loss=outputs.loss.detach())
        prior_loss = self.compare(self.attention, priors, prior_mass)
        self.attention = None
        view_loss, loss = outputs.loss.detach(), outputs.loss + self.config.prior_weight * prior_loss
        return SPANOutput(**{**outputs, "loss": loss}, view_loss=view_loss, prior_loss=prior_loss.detach())

    def student_features(self, sizes: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return the student's features of views, and keep the attention of the global views' heads."""
        if self.config.prior_weight == 0:
            return super().student_features(sizes)
        with LastAttention(self.student.backbone) as last:
            first = pooled_features(self.student.backbone, sizes[0])
        self.attention = last.of_each_head()
        return [first, *super().student_features(sizes[1:])]

    def compare(self, attention: torch.Tensor, priors: torch.Tensor, prior_mass: torch.Tensor | None) -> torch.Tensor:
        """Return the loss of the priors.

        Args:
            attention: (views * batch, heads, patches).
            priors, prior_mass: as in `forward`.
        """
        heads, regions = (list(part) for part in zip(*self.config.guided_heads.items(), strict=True))
        attention, count = attention[:, heads], self.config.num_regions
        shape = tuple(priors.shape)
        if len(shape) != 5 or (shape[0] * shape[1], shape[2], shape[3] * shape[4]) != (
            len(attention),
            count,
            attention.shape[2],
        ):
            raise ValueError(
                f"priors must be (batch, views, {count}, rows, columns) of the {attention.shape[2]} patches of each "
                f"view, got {shape}"
            )
        maps = views_first(priors).flatten(2)[:, regions]
        used = maps.sum(dim=-1) > 0
        if prior_mass is not None:
            used = used & (views_first(prior_mass)[:, regions] >= self.config.min_prior_mass)
        loss, _ = self.prior_objective(attention, maps, used)
        return loss

    def picture(self, pixel_values: torch.Tensor) -> list[Column]:
        """Return the attention of each guided head beside its prior, then of the free heads."""
        attention = class_attention(self.teacher.backbone, pixel_values)
        guided, columns = self.config.guided_heads, []
        for head, region in guided.items():
            prior = self.priors.maps[region].cpu().expand(len(pixel_values), -1, -1)
            columns.append(Column(f"prior {region + 1}", prior, is_map=True))
            columns.append(Column(f"head {head + 1}", attention[:, head], is_map=True))
        free = [head for head in range(attention.shape[1]) if head not in guided]
        return [*columns, *(Column(f"head {head + 1}, free", attention[:, head], is_map=True) for head in free)]


__all__ = ["SPANForPreTraining"]
