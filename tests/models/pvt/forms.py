"""Tiny forms of the architecture, on which the conformance tests run, and the one that the other shared tests use."""

from tests.support.forms import STAGES, Form

FORMS = (
    Form(
        "Pvt",
        "pvt",
        1 + 2 * 2,
        {
            "image_size": 32,
            "hidden_sizes": [16, 16, 32],
            "depths": [1, 1, 2],
            "num_attention_heads": [1, 2, 4],
            "mlp_ratios": [2, 2, 2],
            "patch_sizes": [4, 2, 2],
            "sequence_reduction_ratios": [4, 2, 1],
            "squeeze_sizes": [4, 4, 4],
        },
        attentions=4,
        attention=(1, 8 * 8, 2 * 2),
        maps=((16, 8, 8), (16, 8, 8), (16, 4, 4), (32, 2, 2)),
    ),
)

TINY = {
    **STAGES,
    "patch_sizes": [4, 2, 2],
    "sequence_reduction_ratios": [8, 4, 1],
    "mlp_ratios": [2, 2, 2],
    "squeeze_sizes": [4, 4, 4],
}
