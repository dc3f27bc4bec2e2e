"""Tiny forms of the architecture, on which the conformance tests run, and the one that the other shared tests use."""

from tests.support.forms import STAGES, Form

FORMS = (
    Form(
        "Qna",
        "qna",
        2 * 2,
        {
            "image_size": 32,
            "hidden_sizes": [16, 24, 32],
            "depths": [1, 1, 2],
            "window_depths": [0, 0, 1],
            "num_attention_heads": [1, 2, 4],
            "num_query_heads": [2, 2, 4],
            "window_sizes": [7, 7, 2],
            "kernel_sizes": [3, 3, 3],
        },
        attentions=1,
        attention=(4, 2 * 2, 2 * 2),
        maps=((16, 8, 8), (16, 8, 8), (24, 4, 4), (32, 2, 2)),
    ),
)

TINY = {
    **STAGES,
    "window_depths": [0, 0, 1],
    "window_sizes": [7, 7, 2],
    "num_query_heads": [2, 2, 4],
    "kernel_sizes": [3, 3, 3],
}
