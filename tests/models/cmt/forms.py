"""Tiny forms of the architecture, on which the conformance tests run, and the one that the other shared tests use."""

from tests.support.forms import Form

FORMS = (
    Form(
        "Cmt",
        "cmt",
        2 * 2,
        {
            "image_size": 64,
            "stem_hidden_size": 8,
            "hidden_sizes": [8, 16, 24, 32],
            "depths": [1, 1, 1, 2],
            "num_attention_heads": [1, 2, 2, 4],
            "pooler_hidden_size": 40,
        },
        attentions=5,
        attention=(1, 16 * 16, 2 * 2),
        maps=((8, 16, 16), (8, 16, 16), (16, 8, 8), (24, 4, 4), (32, 2, 2)),
    ),
)

TINY = {
    "image_size": 32,
    "stem_hidden_size": 8,
    "depths": [1, 1, 1, 2],
    "hidden_sizes": [8, 8, 16, 16],
    "num_attention_heads": [1, 1, 2, 2],
    "pooler_hidden_size": 24,
}
