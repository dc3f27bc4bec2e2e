"""Tiny forms of the architecture, on which the conformance tests run, and the one that the other shared tests use."""

from tests.support.forms import IMAGE, PATCHES, SIZES, Form

FORMS = (
    Form("DeiT", "deit", 1 + 25, PATCHES),
    Form("DeiTDistilled", "deit", 2 + 25, {**PATCHES, "distilled": True}),
    Form(
        "DeiTParallel",
        "deit",
        1 + 4,
        {
            **IMAGE,
            "num_hidden_layers": 1,
            "image_size": 32,
            "patch_size": 16,
            "stem": "hierarchical_mlp",
            "num_parallel_branches": 2,
            "layer_scale_init_value": 0.1,
            "position_embedding_prefix": False,
        },
        attentions=2,
    ),
    Form("DeiTLocality", "deit", 1 + 25, {**PATCHES, "feed_forward": "locality"}),
)

TINY = {**SIZES, "patch_size": 8, "distilled": True}
