"""Tiny forms of the architecture, on which the conformance tests run, and the one that the other shared tests use."""

from tests.support.forms import IMAGE, LAYERS, SIZES, Form

STEM = {"stem_hidden_sizes": [4, 8], "head_dim": 8}
FORMS = (Form("EarlyConvViT", "early_conv_vit", 1 + 64, {**IMAGE, **STEM}),)

TINY = {**SIZES, **STEM}
