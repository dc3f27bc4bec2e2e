"""Tiny forms of the architecture, on which the conformance tests run, and the one that the other shared tests use."""

from tests.support.forms import LAYERS, SIZES, Form

LABELS = 3  # of every form, each a token
FORMS = (
    Form(
        "CTran",
        "c_tran",
        LABELS + 3 * 3,
        {**LAYERS, "image_size": 24, "embedding_size": 4, "depths": [1, 2]},
    ),
    Form(
        "CTranInception",
        "c_tran",
        LABELS + 1,
        {
            **LAYERS,
            "backbone": "inception_v3",
            "image_size": 75,
            "embedding_size": 2,
            "hidden_size": 128,
            "use_known_labels": False,
        },
    ),
    Form(
        "CTranBackbone",
        "c_tran",
        LABELS + 4 * 4,
        {
            **LAYERS,
            "backbone": "auto",
            "backbone_config": {"model_type": "hf_vits_deit", **SIZES, "patch_size": 8},
            "image_size": 32,
            "feature_projection": True,
        },
        skips={
            "test_capture_outputs_decorator": "a backbone records its own feature maps, inside the recording",
            "test_output_shapes": "the backbone's configuration says how many channels images have",
        },
    ),
)

TINY = {**SIZES, "embedding_size": 2, "depths": [1, 1]}
