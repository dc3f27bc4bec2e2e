"""Tiny forms of the architecture, on which the conformance tests run, and the one that the other shared tests use."""

from tests.support.forms import PATCHES, SIZES, Form

MASKED = {"use_mask_token": True, "encoder_stride": 6}
# A classifier's mask token gets no gradient.
UNUSED_MASK_TOKEN = {"test_all_params_have_gradient": False}
FORMS = (
    Form("ViT", "vit", 1 + 25, {**PATCHES, **MASKED}, flags=UNUSED_MASK_TOKEN),
    Form(
        "ViTBigVision",
        "vit",
        25,
        {
            **PATCHES,
            **MASKED,
            "use_class_token": False,
            "pooling": "map",
            "position_embedding_type": "sincos2d",
        },
        flags=UNUSED_MASK_TOKEN,
    ),
)

TINY = {**SIZES, "patch_size": 8, "pooling": "map", "use_mask_token": True}
