"""Tiny forms of the method, on which the conformance tests run, and the one that the other shared tests use."""

from tests.support.forms import BACKBONE, HEAD, TINY_DEIT, TINY_SWIN, PretrainingForm

FORMS = (
    PretrainingForm("DINO", "dino", {"backbone_config": TINY_DEIT, **HEAD}),
    PretrainingForm("DINOSwin", "dino", {"backbone_config": TINY_SWIN, **HEAD}),
)

TINY = {**HEAD, "backbone_config": BACKBONE}
