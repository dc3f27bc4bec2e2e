"""Tiny forms of the architecture, on which the conformance tests run, and the one that the other shared tests use."""

from tests.support.forms import Form

FORMS = (
    Form(
        "LgTransformer",
        "lg_transformer",
        4 * 4,
        {
            "image_size": 32,
            "depths": [1, 2],
            "hidden_sizes": [16, 24],
            "num_attention_heads": [2, 4],
            "window_size": 4,
            "path_strides": [[1, 2], [1, 2]],
        },
        attentions=6,
        attention=(2, 4 * 4, 4 * 4),
        maps=((16, 8, 8), (16, 8, 8), (24, 4, 4)),
    ),
)

TINY = {
    "image_size": 32,
    "depths": [1, 1, 2],
    "hidden_sizes": [8, 16, 16],
    "num_attention_heads": [1, 2, 2],
    "window_size": 2,
    "path_strides": [[1, 2, 4], [1, 2], [1]],
}
