"""Tiny forms of the method, on which the conformance tests run, and the one that the other shared tests use."""

from tests.support.forms import BACKBONE, HEAD, TINY_DEIT, TINY_SWIN, PretrainingForm

FORMS = (
    PretrainingForm("EsViT", "esvit", {"backbone_config": TINY_SWIN, **HEAD}),
    PretrainingForm("EsViTViews", "esvit", {"backbone_config": TINY_DEIT, **HEAD, "use_regions": False}),
)

TINY = {**HEAD, "backbone_config": BACKBONE}
