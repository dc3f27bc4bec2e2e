"""Tiny forms of the architecture, on which the conformance tests run, and the one that the other shared tests use."""

from tests.support.forms import PATCHES, SIZES, Form

FORMS = (
    Form(
        "TntLocality",
        "tnt",
        1 + 25,
        {
            **PATCHES,
            "pixel_stride": 3,
            "pixel_hidden_size": 8,
            "pixel_num_attention_heads": 2,
            "pixel_intermediate_size": 16,
            "feed_forward": "locality",
        },
        skips={"test_flex_attention_with_grads": "of a GPU, whose heads have 16 channels or more; pixels' have 4"},
    ),
)

TINY = {**SIZES, "pixel_hidden_size": 8, "pixel_num_attention_heads": 2, "pixel_intermediate_size": 16}
