"""gkakogeorgiou/attmask (.pth): iBOT's layout, masks chosen by the teacher's attention."""

from .ibot import infer, model_class, prepare, processor, transforms
from .self_distillation import FULL, vit, with_training

VARIANTS = with_training(
    {f"vit_{size}_patch16": vit(size, 16) for size in ("small", "base", "large", "tiny")}, use_mask_token=True
)
for name in VARIANTS:
    if name.endswith(FULL):
        VARIANTS[name]["masking"] = "high"

__all__ = ["VARIANTS", "infer", "model_class", "prepare", "processor", "transforms"]
