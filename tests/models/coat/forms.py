"""Tiny forms of the architecture, on which the conformance tests run, and the one that the other shared tests use."""

from tests.support.forms import Form

FORMS = (
    Form(
        "Coat",
        "coat",
        1 + 2 * 2,
        {
            "image_size": 64,
            "depths": [1, 1, 1, 1],
            "hidden_sizes": [16, 24, 24, 24],
            "mlp_ratios": [2, 2, 2, 2],
            "num_attention_heads": 4,
            "relative_window_heads": [1, 1, 2],
            "num_parallel_layers": 1,
        },
        maps=((16, 16, 16), (16, 16, 16), (24, 8, 8), (24, 4, 4), (24, 2, 2)),
        # Of its final norms, one per scale, those whose class token is not read get no gradient.
        flags={"has_attentions": False, "test_all_params_have_gradient": False},
    ),
)

TINY = {
    "image_size": 32,
    "depths": [1, 1, 1, 1],
    "hidden_sizes": [8, 16, 16, 16],
    "mlp_ratios": [2, 2, 2, 2],
    "num_attention_heads": 2,
    "relative_window_sizes": [3, 5],
    "relative_window_heads": [1, 1],
    "num_parallel_layers": 2,
}
