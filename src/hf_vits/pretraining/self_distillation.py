"""Base of methods with a student and a teacher that is the student's EMA: DINO, iBOT, EsViT, SiT."""

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
from .method import PretrainingMethod


def teacher_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """Return the teacher's backbone configuration: the student's without stochastic depth and mask token."""
    config = copy.deepcopy(config)
    for name, value in {"drop_path_rate": 0.0, "use_mask_token": False}.items():
        if hasattr(config, name):
            setattr(config, name, value)
    return config


def views_first(views: torch.Tensor) -> torch.Tensor:
    """Map (batch, views, ...) to (views * batch, ...), all images of the first view before those of the second."""
    return views.transpose(0, 1).flatten(0, 1)


def check_views(pixel_values: torch.Tensor | None, num_views: int = 2) -> None:
    """Raise ValueError, or TypeError, unless `pixel_values` are floats with that many views of each image."""
    shape = "(batch, views, channels, height, width)"
    if pixel_values is None:
        raise ValueError(f"You have to specify pixel_values: {shape}")
    if pixel_values.ndim != 5:
        raise ValueError(f"pixel_values must be views of images, {shape}, got shape {tuple(pixel_values.shape)}")
    if not pixel_values.is_floating_point():
        raise TypeError(
            f"pixel_values must be floating point, got {pixel_values.dtype}; run the image processor first"
        )
    if pixel_values.shape[1] < num_views:
        raise ValueError(
            f"at least {num_views} global views of each image are needed, got {pixel_values.shape[1]} "
            f"in pixel_values of shape {tuple(pixel_values.shape)}"
        )


def as_list(
    local_pixel_values: torch.Tensor | Sequence[torch.Tensor] | None, pixel_values: torch.Tensor
) -> list[torch.Tensor]:
    """Return local views (batch, views, channels, height, width) as a list with a tensor per size; empty for None.

    Raises TypeError or ValueError unless they are tensors of views of the same images as `pixel_values`.
    """
    if local_pixel_values is None:
        return []
    is_one = isinstance(local_pixel_values, torch.Tensor)
    sizes = [local_pixel_values] if is_one or not isinstance(local_pixel_values, Sequence) else local_pixel_values
    batch, channels = pixel_values.shape[0], pixel_values.shape[2]
    for size in sizes:
        if not isinstance(size, torch.Tensor) or not size.is_floating_point():
            found = size.dtype if isinstance(size, torch.Tensor) else type(size).__name__
            raise TypeError(f"local_pixel_values must be a tensor of floats or a list of them, got {found}")
        if size.ndim != 5 or size.shape[0] != batch or size.shape[2] != channels or 0 in size.shape:
            raise ValueError(
                f"local_pixel_values must be views of the same images, ({batch}, views, {channels}, height, width), "
                f"got shape {tuple(size.shape)}"
            )
    return list(sizes)


class Branch(nn.Module):
    """Student or teacher: a backbone and a head."""

    def __init__(self, backbone_config: PreTrainedConfig, head: nn.Module):
        super().__init__()
        self.backbone = AutoModel.from_config(backbone_config)
        self.head = head


class SelfDistillationModel(PretrainingMethod, VitsPreTrainedModel):
    """Base of models with a `student` and a `teacher`, each a `Branch`, and an `objective`.

    The teacher is not trained: `update_teacher` moves it after each step. `teacher` is None for a method without one
    (SiT's first and second generation).
    """

    base_model_prefix = ""
    # The backbone can be any model of `AutoModel`; a self-contained code bundle would need its code as well.
    needs_package = True
    # Whether the teacher is moved before the optimizer step, towards the student of the step before (Leopart).
    teacher_follows_before_step = False
    # Whether the teacher is moved before the forward pass, with the momentum of that step (SFC).
    teacher_moves_first = False
    student: Any
    teacher: Any

    @property
    def recipe_sections(self) -> set[str]:
        return {"views"} if self.teacher is None else {"views", "momentum_teacher"}

    @torch.no_grad()
    def _init_weights(self, module):
        """Initialise heads as the originals: truncated normal; weight-normalised layers as PyTorch's linear layers."""
        if isinstance(module, WeightNormLinear):
            init.kaiming_uniform_(module.direction, a=5**0.5)
            init.ones_(module.magnitude)
        elif isinstance(module, Center):
            init.zeros_(module.value)
        else:
            super()._init_weights(module)

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        loaded = super().from_pretrained(*args, **kwargs)
        # Loading creates new parameters, which require gradients.
        teacher = (loaded[0] if isinstance(loaded, tuple) else loaded).teacher
        if teacher is not None:
            teacher.requires_grad_(False)
        return loaded

    def get_input_embeddings(self) -> nn.Module:
        return self.student.backbone.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.student.backbone.set_input_embeddings(value)

    def start_teacher(self) -> None:
        """Copy to the teacher those of the student's weights that the teacher has."""
        self.teacher.requires_grad_(False)
        self.update_teacher(momentum=0.0)
        student = dict(self.student.named_buffers())
        for name, buffer in self.teacher.named_buffers():
            buffer.copy_(student[name])

    @torch.no_grad()
    def update_teacher(self, momentum: float) -> None:
        """Move the teacher's parameters towards the student's (EMA); call it after each optimizer step.

        Args:
            momentum: weight of the teacher's old parameters.
        """
        student = dict(self.student.named_parameters())
        pairs = [(own, student[name]) for name, own in self.teacher.named_parameters() if name in student]
        own, followed = zip(*pairs, strict=True)
        get_ema_multi_avg_fn(momentum)(list(own), [parameter.detach() for parameter in followed], None)

    def export(self, branch: Literal["teacher", "student"] = "teacher") -> PreTrainedModel:
        """Return a copy of the backbone of the teacher, which the originals evaluate, or of the student.

        It is a plain model that can be saved and loaded by `AutoModel`. `hf_vits.conversion.to_transformers` converts
        a ViT to transformers' own class.
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
    """Return `pooler_output` (batch, channels); a ViT that pools its class token computes only what that needs."""
    options = {}
    if isinstance(backbone, ViTModel) and backbone.config.pooling == "token":
        options["prefix_only"] = True
    return backbone(pixel_values, return_dict=True, **options).pooler_output
