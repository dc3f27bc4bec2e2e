"""Tiny forms of the architecture, on which the conformance tests run, and the one that the other shared tests use."""

from tests.support.forms import STAGES, Form

VIDEO = ("AutoModel", "AutoModelForVideoClassification")
MVIT_CLIPS = {
    "image_size": 32,
    "num_frames": 4,
    "patch_size": [3, 7, 7],
    "patch_stride": [2, 4, 4],
    "pooling_kernel_size": [3, 3, 3],
    "hidden_sizes": [16, 24, 32],
    "depths": [1, 1, 2],
    "num_attention_heads": [1, 2, 4],
    "key_value_stride": 4,
    "use_class_token": True,
    "initializer": "slowfast",
}
FORMS = (
    Form(
        "Mvit",
        "mvit",
        2 * 2,
        {"image_size": 32, "hidden_sizes": [16, 24, 32], "depths": [1, 1, 2], "num_attention_heads": [1, 2, 4]},
        attentions=4,
        attention=(1, 8 * 8, 2 * 2),
        maps=((16, 8, 8), (16, 8, 8), (24, 4, 4), (32, 2, 2)),
    ),
    Form(
        "MvitV1",
        "mvit",
        1 + 2 * 2,
        {
            "image_size": 32,
            "hidden_sizes": [16, 24, 32],
            "depths": [1, 1, 2],
            "num_attention_heads": [1, 2, 4],
            "use_class_token": True,
            "position_embedding_type": "absolute",
            "expand_in_attention": False,
            "pool_all_queries": False,
            "residual_pooling": False,
            "initializer": "slowfast",
        },
        attentions=4,
        attention=(1, 1 + 8 * 8, 1 + 2 * 2),
        maps=((16, 8, 8), (24, 8, 8), (32, 4, 4), (32, 2, 2)),
    ),
    Form(
        "MvitClips",
        "mvit",
        1 + 2 * 2 * 2,
        MVIT_CLIPS,
        attentions=4,
        attention=(1, 1 + 2 * 8 * 8, 1 + 2 * 2 * 2),
        maps=((16, 2, 8, 8), (16, 2, 8, 8), (24, 2, 4, 4), (32, 2, 2, 2)),
        auto_classes=VIDEO,
    ),
    Form(
        "MvitV1Clips",
        "mvit",
        1 + 2 * 2 * 2,
        {
            **MVIT_CLIPS,
            "position_embedding_type": "absolute",
            "expand_in_attention": False,
            "pool_all_queries": False,
            "residual_pooling": False,
        },
        attentions=4,
        attention=(1, 1 + 2 * 8 * 8, 1 + 2 * 2 * 2),
        maps=((16, 2, 8, 8), (24, 2, 8, 8), (32, 2, 4, 4), (32, 2, 2, 2)),
        auto_classes=VIDEO,
    ),
)

TINY = STAGES

TINY_CLIPS = {
    **STAGES,
    "num_frames": 4,
    "patch_size": [3, 7, 7],
    "patch_stride": [2, 4, 4],
    "pooling_kernel_size": [3, 3, 3],
}
