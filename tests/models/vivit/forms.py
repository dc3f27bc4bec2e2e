"""Tiny forms of the architecture, on which the conformance tests run, and the one that the other shared tests use."""

from tests.support.forms import LAYERS, SIZES, Form

VIVIT = {**LAYERS, "image_size": 16, "num_frames": 4, "tubelet_size": [2, 4, 4]}
FORMS = (
    Form("Vivit", "vivit", 1 + 2 * 16, VIVIT),
    Form(
        "VivitUniformFrames",
        "vivit",
        3 * 16,
        {**VIVIT, "tubelet_size": [1, 4, 4], "num_sampled_frames": 3, "pooling": "mean"},
    ),
    Form(
        "VivitFactorizedEncoder",
        "vivit",
        1 + 2,
        {**VIVIT, "attention_type": "factorized_encoder", "num_hidden_layers": 1, "num_temporal_layers": 1},
        layers=2,
        attentions=2,
        attention=(4, 1 + 16, 1 + 16),
    ),
    Form(
        "VivitFactorizedSelfAttention",
        "vivit",
        2 * 16,
        {
            **VIVIT,
            "num_hidden_layers": 1,
            "attention_type": "factorized_self_attention",
            "attention_order": "space_time",
            "pooling": "mean",
        },
        attentions=2,
        attention=(4, 16, 16),
    ),
    Form(
        "VivitFactorizedDotProduct",
        "vivit",
        2 * 16,
        {**VIVIT, "num_hidden_layers": 1, "attention_type": "factorized_dot_product", "pooling": "mean"},
        attentions=2,
        attention=(2, 16, 16),
    ),
)

TINY_CLIPS = {
    **SIZES,
    "num_frames": 4,
    "tubelet_size": [2, 8, 8],
    "attention_type": "factorized_encoder",
    "num_temporal_layers": 1,
}
