"""Leopart: clustering of patches, so that the tokens of a ViT tell object parts apart.

Ziegler and Asano, "Self-Supervised Learning of Object Parts for Semantic Segmentation", arXiv 2204.13101;
MkuuWaUjinga/leopart (src/leopart.py, src/vit.py).
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from ...layers.foreground import foreground_mask
from ...layers.patch import square_grid
from ...objectives.leopart import EmbeddingQueue, LeopartLoss, overlap_boxes
from ..class_attention import LastAttention, class_attention_layer
from ..heads import PrototypeHead
from ..method import Column, collate
from ..pictures import class_attention, component_columns, patch_tokens
from ..self_distillation import Branch, SelfDistillationModel, as_list, check_views, teacher_config, views_first
from .configuration_leopart import LeopartConfig


@dataclass
class LeopartOutput(ModelOutput):
    """Output of Leopart.

    loss: scalar.
    logits: similarity of the student's patches to the prototypes, of global crops,
        (global crops, batch, num_prototypes, rows, columns); in training 0 for patches without effect on the loss.
    teacher_logits: the same of the teacher.
    local_logits: of local crops, a tensor for each size.
    region: (global crops, batch, rows, columns), True for the patches that are clustered; None for all.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    teacher_logits: Tensor | None = None
    local_logits: tuple[Tensor, ...] | None = None
    region: Tensor | None = None


class LeopartBranch(Branch):
    """Student or teacher: a backbone and a head on its patch tokens."""

    def __init__(self, config: LeopartConfig, backbone_config: PreTrainedConfig):
        head = PrototypeHead(
            backbone_config.hidden_size,
            config.num_prototypes,
            config.head_hidden_size,
            config.head_bottleneck_size,
            config.num_head_layers,
        )
        super().__init__(backbone_config, head)

    def forward(self, sizes: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Return embeddings and scores of the patches of each size of crops, (crops, channels, rows, columns) each.

        Args:
            sizes: (crops, num_channels, height, width) for each size. The backbone runs once per size, the head once
                for all.
        """
        tokens = self.tokens(sizes)
        both = self.head(torch.cat([patches.flatten(0, 2) for patches in tokens]))
        counts = [patches[..., 0].numel() for patches in tokens]
        parts = zip(*(values.split(counts) for values in both), strict=True)
        return [
            tuple(values.unflatten(0, patches.shape[:3]).movedim(-1, 1) for values in pair)
            for pair, patches in zip(parts, tokens, strict=True)
        ]

    def tokens(self, sizes: Sequence[Tensor]) -> list[Tensor]:
        """Return patch tokens (crops, rows, columns, channels) of each size of crops."""
        number = self.backbone.config.num_prefix_tokens
        patches = [self.backbone(crops, return_dict=True).last_hidden_state[:, number:] for crops in sizes]
        grids = [square_grid(part.shape[1], crops.shape[-2:]) for part, crops in zip(patches, sizes, strict=True)]
        return [part.unflatten(1, grid) for part, grid in zip(patches, grids, strict=True)]

    def scores_of(self, tokens: Sequence[Tensor], used: Sequence[Tensor]) -> list[Tensor]:
        """Return scores of each size, (crops, num_prototypes, rows, columns), 0 for patches that are not used.

        Args:
            tokens: from `tokens`.
            used: (crops, rows, columns) for each size, True for patches on which the head runs.
        """
        places = torch.cat([part.flatten() for part in used]).nonzero()[:, 0]
        _, found = self.head(torch.cat([part.flatten(0, 2) for part in tokens])[places])
        counts = [part.numel() for part in used]
        scores = found.new_zeros(sum(counts), found.shape[1]).index_put((places,), found)
        shapes = [part.shape for part in used]
        return [
            part.unflatten(0, shape).movedim(-1, 1) for part, shape in zip(scores.split(counts), shapes, strict=True)
        ]


class LeopartForPreTraining(SelfDistillationModel):
    """Leopart: the student predicts, from each crop, the teacher's clusters of patches that another crop shows."""

    config_class = LeopartConfig
    teacher_follows_before_step = True

    def __init__(self, config: LeopartConfig):
        super().__init__(config)
        backbone_config = config.backbone_config
        self.student = LeopartBranch(config, backbone_config)
        self.teacher = LeopartBranch(config, teacher_config(backbone_config)) if config.use_teacher else None
        queue = EmbeddingQueue(
            config.num_global_crops, config.queue_length, config.head_bottleneck_size, config.queue_per_image
        )
        self.objective = LeopartLoss(
            config.temperature,
            config.sinkhorn_temperature,
            config.sinkhorn_iterations,
            config.roi_size,
            queue if config.queue_length else None,
        )
        if config.region != "all" and class_attention_layer(self.student.backbone) is None:
            raise ValueError(
                f"{type(self.student.backbone).__name__} has no class token that attends to all patches, so that "
                'there is no foreground: region must be "all"'
            )
        self.post_init()
        if self.teacher is not None:
            self.start_teacher()

    @torch.no_grad()
    def _init_weights(self, module):
        if isinstance(module, EmbeddingQueue):
            init.zeros_(module.embeddings)
        else:
            super()._init_weights(module)

    @torch.no_grad()
    def start_teacher(self) -> None:
        """Copy the student's backbone to the teacher, whose head keeps its own initial weights, as in the original."""
        own = {name: value.clone() for name, value in self.teacher.head.state_dict().items()}
        super().start_teacher()
        self.teacher.head.load_state_dict(own)

    @torch.no_grad()
    def initialize_from(self, source: PreTrainedModel) -> None:
        """Copy the weights of a trained backbone, of the same kind and sizes, to student and teacher.

        Raises:
            ValueError: the backbone has other weights.
        """
        weights = source.state_dict()
        for branch in (self.student, self.teacher):
            if branch is None:
                continue
            own = {name: tuple(value.shape) for name, value in branch.backbone.state_dict().items()}
            theirs = {name: tuple(value.shape) for name, value in weights.items()}
            if wrong := sorted(name for name in own.keys() | theirs.keys() if own.get(name) != theirs.get(name)):
                raise ValueError(
                    f"the backbone cannot start from a {type(source).__name__} with other weights: {wrong[0]} is "
                    f"{theirs.get(wrong[0], 'missing')} there, {own.get(wrong[0], 'missing')} here; set "
                    "backbone_config to the configuration of the trained model"
                )
            branch.backbone.load_state_dict(weights)

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor | None = None,
        local_pixel_values: Tensor | Sequence[Tensor] | None = None,
        global_boxes: Tensor | None = None,
        crop_boxes: Tensor | None = None,
        **kwargs,
    ) -> LeopartOutput:
        """Compute the loss of a batch. In training mode the prototypes are first scaled to length 1, in place.

        Args:
            pixel_values: (batch, global crops, num_channels, height, width), for student and teacher.
            local_pixel_values: (batch, local crops, num_channels, height, width), for the student alone, or a list
                with such a tensor for each size.
            global_boxes: (batch, global crops, crops, 4), left, top, right and bottom of the overlap of a global crop
                with each crop, in pixels of the global crop; see `objectives.leopart.overlap_boxes`.
            crop_boxes: (batch, crops, global crops, 4), the same in pixels of the other crop.
        """
        check_views(pixel_values)
        if global_boxes is None or crop_boxes is None:
            raise ValueError(
                "You have to specify global_boxes and crop_boxes: where the crops overlap, which the collator of this "
                "model computes from the boxes of the crops"
            )
        batch, num_global = pixel_values.shape[:2]
        if num_global != self.config.num_global_crops:
            raise ValueError(
                f"pixel_values must have {self.config.num_global_crops} global crops of each image "
                f"(config.num_global_crops), got {num_global}"
            )
        if self.training:
            self.normalize_prototypes()
        crops = views_first(pixel_values)
        (embeddings, teacher_scores), region = self.teacher_outputs(crops)
        sizes = [crops, *map(views_first, as_list(local_pixel_values, pixel_values))]
        split = (num_global, batch)
        region = None if region is None else region.unflatten(0, split)
        teacher_scores = teacher_scores.unflatten(0, split)
        # Patches are square and of one size in all crops.
        patch = pixel_values.shape[-1] / teacher_scores.shape[-1]
        global_boxes, crop_boxes = global_boxes / patch, crop_boxes / patch
        scores = [
            size.unflatten(0, (-1, batch))
            for size in self.student_scores(sizes, batch, global_boxes, crop_boxes, region)
        ]
        loss, _ = self.objective(
            [crop for size in scores for crop in size],
            teacher_scores,
            global_boxes,
            crop_boxes,
            embeddings.unflatten(0, split),
            self.student.head.prototypes.weight,
            region,
        )
        return LeopartOutput(
            loss=loss,
            logits=scores[0],
            teacher_logits=teacher_scores,
            local_logits=tuple(scores[1:]) or None,
            region=region,
        )

    @torch.no_grad()
    def normalize_prototypes(self) -> None:
        """Scale the prototypes of student and teacher to length 1."""
        for branch in (self.student, self.teacher):
            if branch is not None:
                weight = branch.head.prototypes.weight
                weight.copy_(nn.functional.normalize(weight, dim=1))

    def student_scores(
        self, sizes: Sequence[Tensor], batch: int, global_boxes: Tensor, crop_boxes: Tensor, region: Tensor | None
    ) -> list[Tensor]:
        """Return the student's scores of each size of crops; in training, only of patches that the loss depends on."""
        if not self.training:
            return [scores for _, scores in self.student(sizes)]
        tokens = self.student.tokens(sizes)
        counts = [len(part) // batch for part in tokens]
        grids = [tuple(part.shape[1:3]) for part, count in zip(tokens, counts, strict=True) for _ in range(count)]
        used = iter(self.objective.used_patches(grids, global_boxes, crop_boxes, region))
        return self.student.scores_of(tokens, [torch.cat([next(used) for _ in range(count)]) for count in counts])

    @torch.no_grad()
    def teacher_outputs(self, crops: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor | None]:
        """Return the teacher's outputs for global crops, and the patches (crops, rows, columns) to cluster."""
        branch = self.student if self.teacher is None else self.teacher
        needs_attention = self.config.region != "all"
        with LastAttention(branch.backbone) if needs_attention else contextlib.nullcontext() as last:
            (outputs,) = branch([crops])
        if last is None:
            return outputs, None
        attention = last.of_class_token()
        return outputs, self.region_of(attention.unflatten(1, outputs[1].shape[-2:]))

    def region_of(self, attention: Tensor) -> Tensor:
        """Return the clustered patches by the class token's attention, both (crops, rows, columns)."""
        config = self.config
        foreground = foreground_mask(
            attention, config.foreground_fraction, config.foreground_sigma, config.foreground_min_component
        )
        return foreground if config.region == "foreground" else ~foreground

    def check_number_of_views(self, num_global: int, num_local: int) -> None:
        if num_global != self.config.num_global_crops:
            raise ValueError(
                f"views.num_global is {num_global}, the model's num_global_crops {self.config.num_global_crops}"
            )

    needs_overlap = True

    def collator(self) -> Callable[[list[dict[str, Any]]], dict[str, Tensor]]:
        return collate_crops

    def export(self, branch: Literal["teacher", "student"] = "student") -> PreTrainedModel:
        """Return a copy of the backbone of the student, which the original evaluates, or of the teacher."""
        return super().export(branch)

    def picture(self, pixel_values: Tensor) -> list[Column]:
        """Return the foreground that is clustered, the prototype of each patch, and the components of patch features.

        Prototypes are drawn in as many colours as there are prototypes.
        """
        backbone, columns = self.student.backbone, []
        if self.config.region != "all":
            region = self.region_of(class_attention(backbone, pixel_values).mean(dim=1))
            columns.append(Column(self.config.region, pixel_values, hidden=~region))
        tokens, grid = patch_tokens(backbone, pixel_values)
        scores = self.student.head(tokens.to(pixel_values))[1]
        clusters = scores.argmax(dim=-1).unflatten(1, grid).cpu()
        return [*columns, Column("prototypes", clusters, is_map=True), *component_columns(backbone, pixel_values)]


def collate_crops(samples: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Stack training samples, whose `boxes` (crops, 4) of the crops in the image become boxes of their overlaps."""
    batch = collate(samples)
    boxes, views = batch.pop("boxes"), [batch["pixel_values"]]
    if "local_pixel_values" in batch:
        views.append(batch["local_pixel_values"])
    sizes = [tuple(crops.shape[-2:]) for crops in views for _ in range(crops.shape[1])]
    batch["global_boxes"], batch["crop_boxes"] = overlap_boxes(boxes, sizes, batch["pixel_values"].shape[1])
    return batch


__all__ = ["LeopartForPreTraining"]
