"""gkakogeorgiou/attmask (.pth): iBOT's checkpoint layout; masks are chosen by the teacher's attention."""

from ..shared.self_distillation import processor, transforms, vit, with_training
from .ibot import infer, model_class, prepare

VARIANTS = with_training({"vit_small_patch16": vit("small", 16)}, use_mask_token=True)
VARIANTS["vit_small_patch16_full"]["masking"] = "high"

__all__ = ["VARIANTS", "infer", "model_class", "prepare", "processor", "transforms"]
