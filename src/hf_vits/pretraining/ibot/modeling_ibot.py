"""Self-distillation of whole views and of masked patches.

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

from ...layers.attention import QueryKeyValue
from ...objectives.ibot import IBOTLoss
from ...objectives.masks import AttentionMask, MaskRatio
from ..dino.modeling_dino import DINOOutput
from ..heads import IBOTHead
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
    """Output of iBOT; the fields of `DINOOutput` are those of class tokens, and:

    class_loss, patch_loss: the parts of the loss, weighted.
    bool_masked_pos: (batch, global views, patches), the masks that were used.
    """

    class_loss: torch.Tensor | None = None
    patch_loss: torch.Tensor | None = None
    bool_masked_pos: torch.Tensor | None = None


class IBOTForPreTraining(SelfDistillationModel):
    """DINO whose student also predicts, from what is around, what its teacher sees in the patches masked from it."""

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
            self.masking = AttentionMask(config.masking, config.mask_probability, config.hint_share)
            self.mask_ratio = MaskRatio(config.mask_ratio, config.mask_ratio_spread)
        self.post_init()
        self.start_teacher()

    @torch.no_grad()
    def start_teacher(self) -> None:
        super().start_teacher()
        if self.config.share_teacher_head and not self.config.share_head:
            # What the original's loading of one state dict into the other comes to: patches are copied last.
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
        """Loss of a batch. Views of one size go through the backbone together.

        Args:
            pixel_values: (batch, global views, num_channels, height, width), two or more; the teacher sees these.
            bool_masked_pos: (batch, global views, patches), True where the student does not see a patch; not with
                masks by attention.
            local_pixel_values: (batch, local views, num_channels, height, width) that the student alone sees, whole,
                or one such tensor for each of several sizes.
            mask_ratios: with masks by attention, the part of the patches to mask and that of hints; None draws them.
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
            mask = views_first(bool_masked_pos).bool()
        teacher_class, teacher_patches, patch_mean = self.teacher_logits(tokens, mask)
        student_class, student_patches = self.student_logits(views, mask, as_list(local_pixel_values))
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

    @torch.no_grad()
    def teacher_tokens(self, views: torch.Tensor) -> tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor | None]:
        """Features of views (batch, channels) and of their patches, and the class token's attention, if it masks."""
        backbone = self.teacher.backbone
        if self.masking is None:
            return split_tokens(backbone, backbone(views)), None
        with LastAttention(backbone) as attention:
            outputs = backbone(views)
        return split_tokens(backbone, outputs), attention.of_class_token()

    def draw_masks(self, attention: torch.Tensor, ratios: tuple[float, float] | None) -> torch.Tensor:
        """(views * batch, patches); one ratio for all, and another for hints, as the original draws them."""
        if ratios is None:
            ratios = self.mask_ratio.draw(random), self.mask_ratio.draw(random)
        return self.masking(attention, *ratios)

    @torch.no_grad()
    def teacher_logits(
        self, tokens: tuple[torch.Tensor, torch.Tensor], mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits of class tokens, of masked patches, and the mean of those of all patches.

        The last layer being linear, the mean over patches is taken before it.
        """
        head = self.teacher.head
        pooled, patches = together(head, *tokens)
        return head.last_layer(pooled), head.patches(patches[mask]), head.patches(patches.mean(dim=(0, 1)))

    def student_logits(
        self, views: torch.Tensor, mask: torch.Tensor, local_views: list[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of the class tokens of all views, and of masked patches.

        No others go through the head, unless it has a batch norm, whose statistics are those of all tokens of a size.
        """
        backbone, head = self.student.backbone, self.student.head
        pooled, patches = split_tokens(backbone, backbone(views, bool_masked_pos=mask))
        locals_first = [views_first(local) for local in local_views]
        if self.config.head_norm == "batch_norm":
            pooled, patches = together(head, pooled, patches)
            others = [together(head, *split_tokens(backbone, backbone(local)))[0] for local in locals_first]
            return head.last_layer(torch.cat([pooled, *others])), head.patches(patches[mask])
        pooled = torch.cat([pooled, *(pooled_features(backbone, local) for local in locals_first)])
        bottleneck = head.bottleneck(torch.cat([pooled, patches[mask]]))
        return head.last_layer(bottleneck[: len(pooled)]), head.patches(bottleneck[len(pooled) :])


class LastAttention:
    """While it is entered, what the last layer of a ViT attends to is remembered."""

    def __init__(self, backbone: PreTrainedModel):
        layers = [module for module in backbone.modules() if isinstance(module, QueryKeyValue)]
        if not layers or not backbone.config.num_prefix_tokens:
            raise ValueError(
                f"{type(backbone).__name__} has no class token that attends to all patches, so that its attention "
                'cannot choose masks: use masking="given"'
            )
        self.layer = layers[-1]
        self.num_prefix_tokens = backbone.config.num_prefix_tokens

    def __enter__(self) -> "LastAttention":
        self.handle = self.layer.register_forward_hook(self.remember)
        return self

    def __exit__(self, *exception) -> None:
        self.handle.remove()

    def remember(self, module, arguments, output: tuple[torch.Tensor, ...]) -> None:
        self.query, self.key = output[0][:, :, :1], output[1]

    def of_class_token(self) -> torch.Tensor:
        """(batch, patches), mean over heads."""
        return self.of_each_head().mean(dim=1)

    def of_each_head(self) -> torch.Tensor:
        """(batch, heads, patches) of the class token."""
        scores = self.query @ self.key.transpose(-2, -1) * self.key.shape[-1] ** -0.5
        return scores.float().softmax(dim=-1)[:, :, 0, self.num_prefix_tokens :]


def split_tokens(backbone: PreTrainedModel, outputs) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of views (batch, channels) and of patches (batch, patches, channels)."""
    return outputs.pooler_output, outputs.last_hidden_state[:, backbone.config.num_prefix_tokens :]


def together(head: IBOTHead, pooled: torch.Tensor, patches: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Bottlenecks of views (batch, channels) and of their patches (batch, patches, channels), made at once."""
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
        train_gain=config.train_gain,
    )


__all__ = ["IBOTForPreTraining"]
