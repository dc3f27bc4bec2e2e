"""Tiny forms of the architecture, on which the conformance tests run, and the one that the other shared tests use."""

from tests.support.forms import STAGES, Form

FORMS = (
    Form(
        "Levit",
        "levit",
        2 * 2,
        {
            "image_size": 80,
            "hidden_sizes": [16, 24, 32],
            "depths": [1, 1, 2],
            "num_attention_heads": [1, 2, 4],
            "key_dim": 8,
        },
        attentions=6,
        attention=(1, 5 * 5, 5 * 5),
        maps=((16, 5, 5), (16, 5, 5), (24, 3, 3), (32, 2, 2)),
        skips={"test_can_load_ignoring_mismatched_shapes": "expects one head; tests/models/levit tests two"},
    ),
)

TINY = {**STAGES, "key_dim": 8}
