"""Tiny forms of the architecture, on which the conformance tests run, and the one that the other shared tests use."""

from tests.support.forms import Form

STAGES = {"image_size": 32, "stem_hidden_size": 8, "hidden_sizes": [8, 16, 24], "depths": [1, 2, 1]}
NO_ATTENTION = {
    "flags": {"has_attentions": False},
    "backbone": {"hidden_sizes": (8, 16, 24, 32), "depths": (1, 1, 1, 1), "strides": (1, 2, 2, 2)},
}

FORMS = (
    Form(
        "ResNet",
        "res_net",
        4 * 4,
        {**STAGES, "strides": [1, 2, 1]},
        maps=((8, 8, 8), (8, 8, 8), (16, 4, 4), (24, 4, 4)),
        **NO_ATTENTION,
    ),
    Form(
        "ResNetBottleneck",
        "res_net",
        2 * 2,
        {**STAGES, "hidden_sizes": [16, 32, 64], "strides": [1, 2, 2], "layer_type": "bottleneck", "groups": 2}
        | {"padding_mode": "reflect"},
        maps=((8, 8, 8), (16, 8, 8), (32, 4, 4), (64, 2, 2)),
        **NO_ATTENTION,
    ),
)

TINY = {**STAGES, "hidden_sizes": [8, 16, 16], "strides": [1, 2, 1]}
