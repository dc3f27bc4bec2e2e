"""iBOT: self-distillation of views and of masked patches.

Zhou et al., "iBOT: Image BERT Pre-Training with Online Tokenizer", arXiv 2111.07832; bytedance/ibot (main_ibot.py).
Kakogeorgiou et al., "What to Hide from Your Students: Attention-Guided Masked Image Modeling", arXiv 2203.12719;
gkakogeorgiou/attmask (main_attmask.py).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel
from transformers.utils.generic import can_return_tuple

from ...layers.patch import square_grid
from ...objectives.ibot import IBOTLoss
from ...objectives.masks import AttentionMask, MaskRatio, block_mask
from ..class_attention import LastAttention
from ..dino.modeling_dino import DINOOutput
from ..heads import IBOTHead
from ..method import Column
from ..pictures import class_attention, patch_tokens
from ..self_distillation import (
    Branch,
    SelfDistillationModel,
    as_list,
    check_views,
    pooled_features,
    teacher_config,
    views_first,
)
from .configuration_ibot import IBOTConfig


@dataclass
class IBOTOutput(DINOOutput):
    """Output of iBOT; the fields of `DINOOutput` refer to class tokens. There are also:

    class_loss, patch_loss: the two parts of the loss, each times its weight.
    bool_masked_pos: (batch, global views, patches), the masks used.
    """

    class_loss: torch.Tensor | None = None
    patch_loss: torch.Tensor | None = None
    bool_masked_pos: torch.Tensor | None = None


class IBOTForPreTraining(SelfDistillationModel):
    """iBOT: DINO, and the student also predicts the teacher's output for patches that are masked in its input."""

    config_class = IBOTConfig

    def __init__(self, config: IBOTConfig):
        super().__init__(config)
        backbone_config = config.backbone_config
        self.student = Branch(backbone_config, make_head(config, config.share_head))
        self.teacher = Branch(teacher_config(backbone_config), make_head(config, config.share_teacher_head))
        self.objective = IBOTLoss(
            config.num_prototypes,
            config.num_patch_prototypes,
            config.student_temperature,
            config.teacher_temperature,
            config.teacher_patch_temperature,
            config.class_weight,
            config.patch_weight,
            config.center_momentum,
            config.patch_center_momentum,
        )
        self.masking = None
        if config.masking != "given":
            self.masking = AttentionMask(config.masking, config.mask_probability, config.hint_fraction)
            self.mask_ratio = MaskRatio(config.mask_ratio, config.mask_ratio_spread)
        self.post_init()
        self.start_teacher()

    @torch.no_grad()
    def start_teacher(self) -> None:
        super().start_teacher()
        if self.config.share_teacher_head and not self.config.share_head:
            # As when the original loads the student's state dict into the teacher: the patch layer is copied last.
            self.teacher.head.last_layer.load_state_dict(self.student.head.patch_layer.state_dict())

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        bool_masked_pos: torch.Tensor | None = None,
        local_pixel_values: torch.Tensor | Sequence[torch.Tensor] | None = None,
        mask_ratios: tuple[float, float] | None = None,
        **kwargs,
    ) -> IBOTOutput:
        """Compute the loss of a batch. The backbone runs once per size of views.

        Args:
            pixel_values: (batch, global views, num_channels, height, width), two or more views, for student and
                teacher.
            bool_masked_pos: (batch, global views, patches), True where a patch is masked for the student; required
                unless masks are made by attention.
            local_pixel_values: (batch, local views, num_channels, height, width), for the student alone and without
                masks, or a list with such a tensor for each size.
            mask_ratios: with masks by attention, the fraction of the patches to mask and the `hint_ratio` of
                `AttentionMask`; None to draw both.
        """
        check_views(pixel_values)
        if (bool_masked_pos is None) == (self.masking is None):
            raise ValueError(
                f"with config.masking={self.config.masking!r} bool_masked_pos "
                + ("must come with every batch" if self.masking is None else "is made here and must not be given")
            )
        batch, num_views = pixel_values.shape[:2]
        views = views_first(pixel_values)
        tokens, attention = self.teacher_tokens(views)
        if bool_masked_pos is None:
            mask = self.draw_masks(attention, mask_ratios)
        else:
            if bool_masked_pos.ndim != 3:
                raise ValueError(
                    f"bool_masked_pos must be (batch, views, patches), got shape {tuple(bool_masked_pos.shape)}"
                )
            mask = views_first(bool_masked_pos).bool()
        patches = tokens[1]
        if mask.shape != patches.shape[:2]:
            raise ValueError(
                f"bool_masked_pos must be (batch, views, patches) = {(batch, num_views, patches.shape[1])}, got shape "
                f"{tuple(bool_masked_pos.shape)}"
            )
        teacher_class, teacher_patches, patch_mean = self.teacher_logits(tokens, mask)
        student_class, student_patches = self.student_logits(views, mask, as_list(local_pixel_values, pixel_values))
        student_class = student_class.unflatten(0, (-1, batch))
        teacher_class = teacher_class.unflatten(0, (num_views, batch))
        mask = mask.unflatten(0, (num_views, batch))
        loss, logged = self.objective(student_class, teacher_class, student_patches, teacher_patches, mask, patch_mean)
        return IBOTOutput(
            loss=loss,
            logits=student_class,
            teacher_logits=teacher_class,
            bool_masked_pos=mask.transpose(0, 1),
            **logged,
        )

    @property
    def recipe_sections(self) -> set[str]:
        return super().recipe_sections | ({"masks"} if self.config.masking == "given" else set())

    def picture(self, pixel_values: torch.Tensor, masks: torch.Tensor | None = None) -> list[Column]:
        """Return the patches that are hidden from the student and, with AttMask, the attention that chooses them.

        Args:
            pixel_values: (images, channels, height, width), on the model's device.
            masks: (images, patches), True where a patch is hidden. None: with AttMask, the masks of its strategy at
                the mean ratio; otherwise blocks of that ratio.
        """
        backbone, ratio, columns = self.teacher.backbone, self.config.mask_ratio, []
        if self.masking is not None:
            attention = class_attention(backbone, pixel_values).mean(dim=1)
            columns.append(Column("attention", attention, is_map=True))
        if masks is not None:
            masks = masks.unflatten(1, square_grid(masks.shape[1], pixel_values.shape[-2:]))
        elif self.masking is not None:
            masks = self.masking.by_attention(attention.flatten(1), ratio).view_as(attention)
        else:
            _, grid = patch_tokens(backbone, pixel_values[:1])
            generator = random.Random(0)
            masks = torch.stack([torch.from_numpy(block_mask(grid, ratio, generator)) for _ in pixel_values])
        return [*columns, Column(f"{masks.float().mean():.0%} hidden", pixel_values, hidden=masks)]

    @torch.no_grad()
    def teacher_tokens(self, views: torch.Tensor) -> tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor | None]:
        """Return the teacher's features of views and patches, and the class token's attention if masks need it."""
        backbone = self.teacher.backbone
        if self.masking is None:
            return split_tokens(backbone, backbone(views, return_dict=True)), None
        with LastAttention(backbone) as attention:
            outputs = backbone(views, return_dict=True)
        return split_tokens(backbone, outputs), attention.of_class_token()

    def draw_masks(self, attention: torch.Tensor, ratios: tuple[float, float] | None) -> torch.Tensor:
        """Draw masks (views * batch, patches) by attention, with one ratio for all, as in the original."""
        if ratios is None:
            ratios = self.mask_ratio.draw(random), self.mask_ratio.draw(random)
        return self.masking(attention, *ratios)

    @torch.no_grad()
    def teacher_logits(
        self, tokens: tuple[torch.Tensor, torch.Tensor], mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the teacher's logits of class tokens and of masked patches, and the mean logits of all patches.

        The last layer is linear, so the mean over patches is taken before it.
        """
        head = self.teacher.head
        pooled, patches = together(head, *tokens)
        return head.last_layer(pooled), head.patches(patches[mask]), head.patches(patches.mean(dim=(0, 1)))

    def student_logits(
        self, views: torch.Tensor, mask: torch.Tensor, local_views: list[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the student's logits of the class tokens of all views, and of masked patches.

        The head runs on these tokens alone, unless it has batch norms, whose statistics need all tokens of a size.
        """
        backbone, head = self.student.backbone, self.student.head
        pooled, patches = split_tokens(backbone, backbone(views, return_dict=True, bool_masked_pos=mask))
        locals_first = [views_first(local) for local in local_views]
        if self.config.head_norm == "batch_norm":
            pooled, patches = together(head, pooled, patches)
            outputs = [backbone(local, return_dict=True) for local in locals_first]
            others = [together(head, *split_tokens(backbone, output))[0] for output in outputs]
            return head.last_layer(torch.cat([pooled, *others])), head.patches(patches[mask])
        pooled = torch.cat([pooled, *(pooled_features(backbone, local) for local in locals_first)])
        bottleneck = head.bottleneck(torch.cat([pooled, patches[mask]]))
        return head.last_layer(bottleneck[: pooled.shape[0]]), head.patches(bottleneck[pooled.shape[0] :])


def split_tokens(backbone: PreTrainedModel, outputs) -> tuple[torch.Tensor, torch.Tensor]:
    """Split outputs into features of views (batch, channels) and of patches (batch, patches, channels)."""
    return outputs.pooler_output, outputs.last_hidden_state[:, backbone.config.num_prefix_tokens :]


def together(head: IBOTHead, pooled: torch.Tensor, patches: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the head's MLP on views (batch, channels) and patches (batch, patches, channels) in one pass."""
    bottleneck = head.bottleneck(torch.cat([pooled[:, None], patches], dim=1))
    return bottleneck[:, 0], bottleneck[:, 1:]


def make_head(config: IBOTConfig, shared: bool) -> IBOTHead:
    return IBOTHead(
        config.backbone_config.pooler_size,
        config.num_prototypes,
        None if shared else config.num_patch_prototypes,
        hidden_size=config.head_hidden_size,
        bottleneck_size=config.head_bottleneck_size,
        num_layers=config.num_head_layers,
        norm=config.head_norm,
        train_magnitude=config.train_magnitude,
    )


__all__ = ["IBOTForPreTraining"]
