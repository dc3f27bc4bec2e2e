"""Tiny forms of the architecture, on which the conformance tests run, and the one that the other shared tests use."""

from tests.support.forms import STAGES, Form

FORMS = (
    Form(
        "SwinLocality",
        "swin",
        4 * 4,
        {
            "image_size": 32,
            "hidden_sizes": [16, 32],
            "depths": [2, 1],
            "num_attention_heads": [2, 4],
            "window_size": 4,
            "feed_forward": "locality",
            "squeeze_sizes": [4, 4],
        },
        attentions=3,
        attention=(2, 4 * 4, 4 * 4),
        maps=((16, 8, 8), (16, 8, 8), (32, 4, 4)),
    ),
)

TINY = {**STAGES, "window_size": 2, "squeeze_sizes": [4, 4, 4]}
