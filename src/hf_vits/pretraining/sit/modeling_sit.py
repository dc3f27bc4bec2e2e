"""SiT: rotation prediction, contrastive learning and reconstruction of corrupted images.

Atito, Awais and Kittler, "SiT: Self-supervised vIsion Transformer", arXiv 2104.03602; Sara-Ahmed/SiT, whose history
contains three methods, see `configuration_sit.GENERATIONS`.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from ...layers.arguments import check_ids
from ...modeling import init_as_torch
from ...models.vit.modeling_vit import ViTModel
from ...objectives.sit import MomentumSiTLoss, SiTLoss
from ..heads import ReconstructionHead, contrastive_head, momentum_contrastive_head
from ..method import Column
from ..self_distillation import SelfDistillationModel, check_views, teacher_config, views_first
from .batches_sit import SiTBatches, SiTCollator, generators_of
from .configuration_sit import SiTConfig

NUM_ROTATIONS = 4


@dataclass
class SiTOutput(ModelOutput):
    """Output of SiT; fields of tasks that are not learned are None.

    loss: scalar.
    embeddings: (2, batch, embedding_size) of the student.
    teacher_embeddings: (2, batch, embedding_size), with a momentum teacher.
    rotation_logits: (2, batch, 4), classes are the number of quarter turns.
    reconstruction: (2, batch, num_channels, height, width), reconstructed images.
    rotation_loss, contrastive_loss, reconstruction_loss: parts of the loss before weighting, without gradient.
    """

    loss: torch.Tensor | None = None
    embeddings: torch.Tensor | None = None
    teacher_embeddings: torch.Tensor | None = None
    rotation_logits: torch.Tensor | None = None
    reconstruction: torch.Tensor | None = None
    rotation_loss: torch.Tensor | None = None
    contrastive_loss: torch.Tensor | None = None
    reconstruction_loss: torch.Tensor | None = None


class SiTBranch(nn.Module):
    """Student or teacher: a backbone and a head for each task."""

    def __init__(self, config: SiTConfig, backbone_config: PreTrainedConfig):
        super().__init__()
        self.backbone = AutoModel.from_config(backbone_config)
        self.num_prefix_tokens = backbone_config.num_prefix_tokens
        hidden_size = backbone_config.hidden_size
        self.rotation_head = self.contrastive_head = self.reconstruction_head = None
        if "rotation" in config.tasks:
            self.rotation_head = make_head(config, hidden_size, NUM_ROTATIONS)
        if "contrastive" in config.tasks:
            self.contrastive_head = make_head(config, hidden_size, config.embedding_size)
        if "reconstruction" in config.tasks:
            self.reconstruction_head = ReconstructionHead(
                hidden_size, config.num_reconstruction_layers, backbone_config.patch_size, backbone_config.num_channels
            )

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return rotation logits (views, 4), embeddings and reconstructions of images; None for tasks without head."""
        tokens = self.backbone(pixel_values, return_dict=True).last_hidden_state
        rotation = None if self.rotation_head is None else self.rotation_head(tokens[:, 0])
        embeddings = None if self.contrastive_head is None else self.embed_tokens(tokens)
        painted = None if self.reconstruction_head is None else self.paint_tokens(tokens, pixel_values)
        return rotation, embeddings, painted

    def embed(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return embeddings (views, embedding_size) alone; a ViT computes only the prefix tokens of its last layer."""
        options = {"prefix_only": True} if isinstance(self.backbone, ViTModel) else {}
        return self.embed_tokens(self.backbone(pixel_values, return_dict=True, **options).last_hidden_state)

    def paint(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return reconstructed images (views, channels, height, width) alone."""
        return self.paint_tokens(self.backbone(pixel_values, return_dict=True).last_hidden_state, pixel_values)

    def embed_tokens(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map tokens (views, tokens, channels) to embeddings (views, embedding_size), by the last prefix token."""
        return self.contrastive_head(tokens[:, self.num_prefix_tokens - 1])

    def paint_tokens(self, tokens: torch.Tensor, pixel_values: torch.Tensor) -> torch.Tensor:
        """Map tokens (views, tokens, channels) to reconstructed images of the size of `pixel_values`."""
        grid = self.backbone.embeddings.grid(*pixel_values.shape[-2:])
        return self.reconstruction_head(tokens[:, self.num_prefix_tokens :], grid)


class SiTForPreTraining(SelfDistillationModel):
    """SiT: from corrupted views, the student predicts the rotation, matches the other view and reconstructs the image.

    `hf_vits.pretraining.sit.batches_sit.SiTBatches` makes its batches from clean views.
    """

    config_class = SiTConfig

    def __init__(self, config: SiTConfig):
        super().__init__(config)
        self.student = SiTBranch(config, config.backbone_config)
        self.teacher = None
        if config.momentum_teacher:
            self.teacher = SiTBranch(config, teacher_config(config.backbone_config))
            self.objective = MomentumSiTLoss(config.temperature, config.reconstruction_weight)
        else:
            self.objective = SiTLoss(config.weighting, config.corrupted_only, config.temperature, config.tasks)
        self.post_init()
        if self.teacher is not None:
            self.start_teacher()

    @torch.no_grad()
    def _init_weights(self, module):
        """Initialise transposed convolutions as PyTorch, task weights 1, the rest as in `SelfDistillationModel`."""
        if isinstance(module, nn.ConvTranspose2d):
            init_as_torch(module)
        elif isinstance(module, nn.ParameterDict):  # of the objective
            for weight in module.values():
                init.ones_(weight)
        else:
            super()._init_weights(module)

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        corrupted_pixel_values: torch.Tensor | None = None,
        corruption_mask: torch.Tensor | None = None,
        rotation_labels: torch.Tensor | None = None,
        **kwargs,
    ) -> SiTOutput:
        """Compute the loss of a batch. The backbone runs once for both views.

        Args:
            pixel_values: (batch, 2, num_channels, height, width), clean views, rotated for the rotation task.
            corrupted_pixel_values: the same views corrupted, the student's input.
            corruption_mask: (batch, 2, height, width), True where a pixel was corrupted; with `config.corrupted_only`.
            rotation_labels: (batch, 2), number of quarter turns of each view; for the rotation task.
        """
        check_views(pixel_values)
        self.check_batch(pixel_values, corrupted_pixel_values, corruption_mask, rotation_labels)
        clean = views_first(pixel_values)
        logits, embeddings, painted = self.student(views_first(corrupted_pixel_values))
        corrupted = None if corruption_mask is None else views_first(corruption_mask)[:, None]
        teacher_embeddings = None
        if self.teacher is not None:
            with torch.no_grad():
                teacher_embeddings = apart(self.teacher.embed(clean))
            loss, logged = self.objective(apart(embeddings), teacher_embeddings, painted, clean, corrupted)
        else:
            labels = None if rotation_labels is None else views_first(rotation_labels)
            views = (None, None) if embeddings is None else apart(embeddings)
            loss, logged = self.objective(logits, labels, *views, painted, clean, corrupted)
        return SiTOutput(
            loss=loss,
            embeddings=apart(embeddings),
            teacher_embeddings=teacher_embeddings,
            rotation_logits=apart(logits),
            reconstruction=apart(painted),
            **{f"{task}_loss": logged[f"{task}_loss"] for task in self.config.tasks},
        )

    def check_batch(
        self,
        pixel_values: torch.Tensor,
        corrupted_pixel_values: torch.Tensor | None,
        corruption_mask: torch.Tensor | None,
        rotation_labels: torch.Tensor | None,
    ) -> None:
        """Raise ValueError or TypeError unless there are two views of each image and all that the tasks need."""
        batch, num_views, _, *size = pixel_values.shape
        if num_views != 2:
            raise ValueError(f"SiT compares two views of each image, got {num_views} in pixel_values")
        given = {"corrupted_pixel_values": (corrupted_pixel_values, pixel_values.shape)}
        if self.config.corrupted_only and "reconstruction" in self.config.tasks:
            given["corruption_mask"] = corruption_mask, (batch, num_views, *size)
        if "rotation" in self.config.tasks:
            given["rotation_labels"] = rotation_labels, (batch, num_views)
        for name, (value, shape) in given.items():
            if value is None or value.shape != shape:
                got = "none" if value is None else f"shape {tuple(value.shape)}"
                raise ValueError(
                    f"{name} {tuple(shape)} must come with every batch, got {got}; "
                    "hf_vits.pretraining.sit.batches_sit.SiTBatches makes it from clean views"
                )
        if "rotation_labels" in given:
            check_ids("rotation_labels", rotation_labels)
        if "corruption_mask" in given and corruption_mask.dtype != torch.bool:
            raise TypeError(f"corruption_mask must be torch.bool, True where corrupted, got {corruption_mask.dtype}")

    def reconstruct(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Reconstruct images (batch, num_channels, height, width), corrupted or not; pixels are normalised."""
        if self.student.reconstruction_head is None:
            raise ValueError(f"this model reconstructs nothing: reconstruction is not among tasks={self.config.tasks}")
        return self.student.paint(pixel_values)

    def check_number_of_views(self, num_global: int, num_local: int) -> None:
        if (num_global, num_local) != (2, 0):
            raise ValueError(
                "SiT compares two views: views.num_global must be 2 and views.num_local 0, got "
                f"{num_global} and {num_local}"
            )

    def collator(self) -> SiTCollator:
        return SiTCollator(self.config)

    def picture(self, pixel_values: torch.Tensor) -> list[Column]:
        """Return the corrupted images and, where reconstruction is a task, what the student paints of them."""
        generators = generators_of(range(len(pixel_values)), view=0)
        corrupted = SiTBatches(self.config).corrupt(pixel_values.cpu(), *generators)["corrupted_pixel_values"]
        columns = [Column("corrupted", corrupted)]
        if "reconstruction" in self.config.tasks:
            columns.append(Column("painted", self.reconstruct(corrupted.to(pixel_values.device))))
        return columns

    def update_teacher(self, momentum: float) -> None:
        """Move the teacher as in `SelfDistillationModel`; do nothing without a teacher."""
        if self.teacher is not None:
            super().update_teacher(momentum)

    def export(self, branch: Literal["teacher", "student"] | None = None) -> PreTrainedModel:
        """Return a copy of a branch's backbone; by default the teacher's, without a teacher the student's."""
        if branch == "teacher" and self.teacher is None:
            raise ValueError("this model has no teacher, momentum_teacher=False: export its student")
        return super().export(branch or ("student" if self.teacher is None else "teacher"))


def apart(views: torch.Tensor | None) -> torch.Tensor | None:
    """Return (2 * batch, ...), the first views first, to (2, batch, ...)."""
    return None if views is None else views.unflatten(0, (2, -1))


def make_head(config: SiTConfig, in_features: int, out_features: int) -> nn.Module:
    if config.head == "linear":
        return nn.Linear(in_features, out_features)
    make = contrastive_head if config.head == "mlp" else momentum_contrastive_head
    return make(in_features, out_features, config.head_hidden_size)


__all__ = ["SiTBranch", "SiTForPreTraining", "SiTOutput"]
