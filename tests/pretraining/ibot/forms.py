"""Tiny forms of the method, on which the conformance tests run, and the one that the other shared tests use."""

from tests.support.forms import BACKBONE, HEAD, TINY_DEIT, TINY_SWIN, PretrainingForm

TINY_IBOT = {**HEAD, "num_patch_prototypes": 12}
MASKED_VIEWS = ("views", "local_views", "patch_masks")

FORMS = (
    PretrainingForm(
        "IBOT", "ibot", {"backbone_config": TINY_DEIT | {"use_mask_token": True}, **TINY_IBOT}, inputs=MASKED_VIEWS
    ),
    PretrainingForm(
        "IBOTSwinTwoHeads",
        "ibot",
        {
            "backbone_config": TINY_SWIN | {"use_mask_token": True},
            **TINY_IBOT,
            "share_head": False,
            "share_teacher_head": False,
        },
        inputs=MASKED_VIEWS,
    ),
)

TINY = {**HEAD, "num_patch_prototypes": 12, "backbone_config": BACKBONE | {"use_mask_token": True}}
