"""Tiny forms of the architecture, on which the conformance tests run, and the one that the other shared tests use."""

from tests.support.forms import STAGES, Form

# A classifier reads the regional tokens; the last norm is for the local map that a backbone returns.
UNUSED_LAST_NORM = {"test_all_params_have_gradient": False}
FORMS = (
    Form(
        "RegionViT",
        "regionvit",
        2 * 2,
        {
            "image_size": 32,
            "hidden_sizes": [16, 16, 32],
            "depths": [1, 1, 2],
            "num_attention_heads": [1, 2, 4],
            "window_size": 2,
        },
        attentions=8,
        attention=(1, 4 * 4, 4 * 4),
        maps=((16, 8, 8), (16, 8, 8), (16, 4, 4), (32, 2, 2)),
    ),
    Form(
        "RegionViTPadded",
        "regionvit",
        3 * 3,
        {
            "image_size": 36,
            "hidden_sizes": [16, 32],
            "depths": [1, 1],
            "num_attention_heads": [1, 2],
            "patch_size": 6,
            "window_size": 5,
            "num_conv_layers": 1,
            "use_conv_position_embedding": True,
            "use_stage_norm": True,
        },
        attentions=4,
        attention=(1, 2 * 2, 2 * 2),
        maps=((16, 6, 6), (16, 6, 6), (32, 3, 3)),
        flags=UNUSED_LAST_NORM,
    ),
)

TINY = {**STAGES, "window_size": 2}
