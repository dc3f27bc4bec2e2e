"""Tiny forms of the method, on which the conformance tests run, and the one that the other shared tests use."""

from tests.support.forms import BACKBONE, TINY_DEIT, TINY_SWIN, PretrainingForm

HEADS = {"projection_hidden_size": 20, "projection_size": 8, "prediction_hidden_size": 12}
FORMS = (
    PretrainingForm("SFC", "sfc", {"backbone_config": TINY_DEIT, **HEADS}, inputs=("views", "view_boxes")),
    PretrainingForm("SFCStages", "sfc", {"backbone_config": TINY_SWIN, **HEADS}, inputs=("views", "view_boxes")),
)

TINY = {**HEADS, "backbone_config": BACKBONE}
