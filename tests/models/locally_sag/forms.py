"""Tiny forms of the architecture, on which the conformance tests run, and the one that the other shared tests use."""

from tests.support.forms import STAGES, Form

FORMS = (
    Form(
        "LocallySag",
        "locally_sag",
        2 * 2,
        {
            "image_size": 32,
            "hidden_sizes": [16, 24, 32],
            "depths": [1, 1, 2],
            "num_attention_heads": [1, 2, 4],
            "patch_size": 4,
            "patch_stride": 4,
            "patch_padding": 0,
        },
        attentions=4,
        attention=(1, 1, 10),
        maps=((16, 8, 8), (16, 8, 8), (24, 4, 4), (32, 2, 2)),
    ),
)

TINY = {**STAGES, "patch_size": 4, "patch_stride": 4, "patch_padding": 0}
