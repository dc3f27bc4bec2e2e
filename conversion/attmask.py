"""gkakogeorgiou/attmask (.pth): iBOT's layout, masks chosen by the teacher's attention."""

from .ibot import infer, model_class, prepare, processor, transforms
from .self_distillation import vit, with_training

VARIANTS = with_training({"vit_small_patch16": vit("small", 16)}, use_mask_token=True)
VARIANTS["vit_small_patch16_full"]["masking"] = "high"

__all__ = ["VARIANTS", "infer", "model_class", "prepare", "processor", "transforms"]
