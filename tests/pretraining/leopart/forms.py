"""Tiny forms of the method, on which the conformance tests run, and the one that the other shared tests use."""

from tests.support.forms import BACKBONE, HEAD, TINY_DEIT, TINY_SWIN, PretrainingForm

CROPS = ("views", "local_views", "overlaps")

FORMS = (
    PretrainingForm("Leopart", "leopart", {"backbone_config": TINY_DEIT, **HEAD, "queue_length": 16}, inputs=CROPS),
    PretrainingForm(
        "LeopartSwinAll",
        "leopart",
        {"backbone_config": TINY_SWIN, **HEAD, "region": "all", "queue_length": 0},
        inputs=CROPS,
    ),
)

TINY = {**HEAD, "region": "all", "queue_length": 0, "backbone_config": BACKBONE}
