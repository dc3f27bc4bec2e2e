"""Tiny forms of the architecture, on which the conformance tests run, and the one that the other shared tests use."""

from tests.support.forms import STAGES, Form

FORMS = (
    Form(
        "Cvt",
        "cvt",
        1 + 2 * 2,
        {"image_size": 32, "hidden_sizes": [16, 24, 32], "depths": [1, 1, 2], "num_attention_heads": [1, 2, 4]},
        attentions=4,
        attention=(1, 8 * 8, 4 * 4),
        maps=((16, 8, 8), (16, 8, 8), (24, 4, 4), (32, 2, 2)),
    ),
    Form(
        "CvtWindows",
        "cvt",
        2 * 2,
        {
            "image_size": 32,
            "hidden_sizes": [16, 24, 32],
            "depths": [1, 1, 2],
            "num_attention_heads": [1, 2, 4],
            "window_size": 3,
            "use_relative_position_bias": True,
            "use_class_token": False,
        },
        attentions=4,
        attention=(1, 3 * 3, 3 * 3),
        maps=((16, 8, 8), (16, 8, 8), (24, 4, 4), (32, 2, 2)),
    ),
)

TINY = STAGES
