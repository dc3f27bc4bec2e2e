"""Tiny forms of the architecture, on which the conformance tests run, and the one that the other shared tests use."""

from tests.support.forms import IMAGE, SIZES, Form

PATCHES = {"stem": "patch", "kernel_sizes": [15, 10, 6], "strides": [15, 10, 6], "paddings": [0, 0, 0]}

FORMS = (
    Form("Dvt", "dvt", 1 + 2 * 2, {**IMAGE, "token_size": 8, "reuse_intermediate_size": 12, "reused_size": 8}),
    Form("DvtPatch", "dvt", 1 + 5 * 5, {**IMAGE, **PATCHES, "reuse_intermediate_size": 12, "reused_size": 8}),
)

TINY = {**SIZES, "token_size": 8, "reuse_intermediate_size": 12, "reused_size": 8}
