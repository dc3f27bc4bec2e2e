"""Full checkpoints of facebookresearch/dino (.pth) to `SPANForPreTraining`, which trains them further with priors.

The authors of SPAN published neither code nor weights. Variants are those of DINO's training, with its names.
"""

import torch

from hf_vits.pretraining.span.modeling_span import SPANForPreTraining

from ..shared.self_distillation import FULL, infer, processor, transforms
from . import dino

VARIANTS = {name: fields for name, fields in dino.VARIANTS.items() if name.endswith(FULL)}


def model_class(fields: dict) -> type[SPANForPreTraining]:
    return SPANForPreTraining


def prepare(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    """Return DINO's tensors, and priors of zeros, which the data set replaces."""
    tensors = dino.prepare(tensors, fields)
    positions = tensors.get("student.backbone.pos_embed")
    if positions is not None and positions.ndim == 3:
        side = round((positions.shape[1] - 1) ** 0.5)
        tensors["priors.maps"] = torch.zeros(fields.get("num_regions", 2), side, side)
    return tensors


__all__ = ["VARIANTS", "infer", "model_class", "prepare", "processor", "transforms"]
