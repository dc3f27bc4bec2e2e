"""Tiny forms of the architecture, on which the conformance tests run, and the one that the other shared tests use."""

from tests.support.forms import IMAGE, SIZES, Form

FORMS = (
    Form("T2T", "t2t", 1 + 2 * 2, {**IMAGE, "token_size": 8}),
    Form("T2TLocality", "t2t", 1 + 2 * 2, {**IMAGE, "token_size": 8, "feed_forward": "locality"}),
)

TINY = {**SIZES, "token_size": 8}
