"""What methods share in which a student learns from a teacher that follows it: DINO, iBOT, EsViT."""

import copy
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init

from ..modeling import VitsPreTrainedModel
from ..models.vit.modeling_vit import ViTModel
from ..objectives.centering import Center
from .heads import WeightNormLinear


def teacher_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """Of a backbone as the teacher has it: no stochastic depth, nothing masked."""
    config = copy.deepcopy(config)
    for name, value in {"drop_path_rate": 0.0, "use_mask_token": False}.items():
        if hasattr(config, name):
            setattr(config, name, value)
    return config


def views_first(views: torch.Tensor) -> torch.Tensor:
    """(batch, views, ...) to (views * batch, ...), all images of the first view before those of the second."""
    return views.transpose(0, 1).flatten(0, 1)


def check_views(pixel_values: torch.Tensor | None, num_views: int = 2) -> None:
    """Raise ValueError unless `pixel_values` has that many views of each image."""
    shape = "(batch, views, channels, height, width)"
    if pixel_values is None:
        raise ValueError(f"You have to specify pixel_values: {shape}")
    if pixel_values.ndim != 5:
        raise ValueError(f"pixel_values must be views of images, {shape}, got shape {tuple(pixel_values.shape)}")
    if pixel_values.shape[1] < num_views:
        raise ValueError(f"at least {num_views} global views of each image are needed, got {pixel_values.shape[1]}")


def as_list(local_pixel_values: torch.Tensor | Sequence[torch.Tensor] | None) -> list[torch.Tensor]:
    """Local views (batch, views, channels, height, width) of one size, of several or none, as one tensor per size."""
    if local_pixel_values is None:
        return []
    return [local_pixel_values] if isinstance(local_pixel_values, torch.Tensor) else list(local_pixel_values)


class Branch(nn.Module):
    """A backbone and the head on it: a student or a teacher."""

    def __init__(self, backbone_config: PreTrainedConfig, head: nn.Module):
        super().__init__()
        self.backbone = AutoModel.from_config(backbone_config)
        self.head = head


class SelfDistillationModel(VitsPreTrainedModel):
    """Base of models with a `student` and a `teacher`, each a `Branch`, and an `objective`.

    The teacher is not trained: `update_teacher` moves it after each step. Without one, as in SiT's first generations,
    `teacher` is None.
    """

    base_model_prefix = ""
    # The backbone may be any that `AutoModel` builds, whose code a repository would have to hold as well.
    needs_package = True
    student: Any
    teacher: Any

    @torch.no_grad()
    def _init_weights(self, module):
        """Heads as the originals: truncated normal; a weight-normalised layer as PyTorch makes a linear one."""
        if isinstance(module, WeightNormLinear):
            init.kaiming_uniform_(module.direction, a=5**0.5)
            init.ones_(module.gain)
        elif isinstance(module, Center):
            init.zeros_(module.value)
        else:
            super()._init_weights(module)

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        loaded = super().from_pretrained(*args, **kwargs)
        # Loading makes parameters anew, which ask for gradients.
        teacher = (loaded[0] if isinstance(loaded, tuple) else loaded).teacher
        if teacher is not None:
            teacher.requires_grad_(False)
        return loaded

    def get_input_embeddings(self) -> nn.Module:
        return self.student.backbone.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.student.backbone.set_input_embeddings(value)

    def start_teacher(self) -> None:
        """Give the teacher the student's weights, where it has them."""
        self.teacher.requires_grad_(False)
        self.update_teacher(momentum=0.0)
        student = dict(self.student.named_buffers())
        for name, buffer in self.teacher.named_buffers():
            buffer.copy_(student[name])

    @torch.no_grad()
    def update_teacher(self, momentum: float) -> None:
        """Move the teacher's parameters towards the student's of the same name: to be called after each step.

        Args:
            momentum: weight of the teacher's own.
        """
        student = dict(self.student.named_parameters())
        pairs = [(own, student[name]) for name, own in self.teacher.named_parameters() if name in student]
        own, followed = zip(*pairs, strict=True)
        get_ema_multi_avg_fn(momentum)(list(own), [parameter.detach() for parameter in followed], None)

    def export(self, branch: Literal["teacher", "student"] = "teacher") -> PreTrainedModel:
        """The backbone of the teacher, which is what the originals evaluate, or of the student.

        A plain model with weights of its own, which `AutoModel` loads once it is saved;
        `hf_vits.conversion.to_transformers` makes a ViT transformers' own.
        """
        if branch not in ("teacher", "student"):
            raise ValueError(f"branch must be 'teacher' or 'student', got {branch!r}")
        backbone = getattr(self, branch).backbone
        config = copy.deepcopy(backbone.config)
        if getattr(config, "use_mask_token", False):
            config.use_mask_token = False
        plain = AutoModel.from_config(config)
        known = plain.state_dict().keys()
        plain.load_state_dict({key: value for key, value in backbone.state_dict().items() if key in known})
        return plain.train(self.training)


def pooled_features(backbone: PreTrainedModel, pixel_values: torch.Tensor) -> torch.Tensor:
    """`pooler_output` (batch, channels), with which a ViT's last layer can spare itself the patches."""
    spared = {}
    if isinstance(backbone, ViTModel) and backbone.config.pooling == "token":
        spared["prefix_only"] = True
    return backbone(pixel_values, **spared).pooler_output
