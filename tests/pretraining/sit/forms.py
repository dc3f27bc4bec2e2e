"""Tiny forms of the method, on which the conformance tests run, and the one that the other shared tests use."""

from tests.support.forms import BACKBONE, TINY_DEIT, PretrainingForm

TINY_SIT = {"head_hidden_size": 20, "embedding_size": 8}
CORRUPTED_VIEWS = ("views", "corrupted_views")

FORMS = (
    PretrainingForm("SiT", "sit", {"backbone_config": TINY_DEIT, **TINY_SIT}, inputs=CORRUPTED_VIEWS),
    PretrainingForm(
        "SiTRotation",
        "sit",
        {
            "backbone_config": TINY_DEIT | {"distilled": True},
            **TINY_SIT,
            "momentum_teacher": False,
            "tasks": ["rotation", "contrastive", "reconstruction"],
            "head": "mlp",
            "weighting": "inverse_square",
        },
        inputs=(*CORRUPTED_VIEWS, "rotations"),
    ),
)

TINY = {"backbone_config": BACKBONE, "head_hidden_size": 20, "embedding_size": 8}
