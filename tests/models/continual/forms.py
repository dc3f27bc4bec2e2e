"""Tiny forms of the architecture, on which the conformance tests run, and the one that the other shared tests use."""

from tests.support.forms import IMAGE, SIZES, Form

STEM = {"stem_hidden_sizes": [4, 6, 8], "num_positions": 65}
FORMS = (Form("EarlyConvViT", "early_conv_vit", 1 + 4 * 4, {**IMAGE, **STEM, "head_dim": 6}),)

TINY = {**SIZES, **STEM, "head_dim": 8}
