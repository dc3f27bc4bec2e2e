"""Tiny forms of the method, on which the conformance tests run, and the one that the other shared tests use."""

from tests.support.forms import BACKBONE, HEAD, TINY_DEIT, PretrainingForm

GUIDED_VIEWS = ("views", "local_views", "priors")
FORMS = (PretrainingForm("SPAN", "span", {"backbone_config": TINY_DEIT, **HEAD}, inputs=GUIDED_VIEWS),)

TINY = {**HEAD, "backbone_config": BACKBONE}
