"""Tiny forms of the architecture, on which the conformance tests run, and the one that the other shared tests use."""

from tests.support.forms import PATCHES, Form

FORMS = (
    Form("SiTTokens", "sit_classifier", 2 + 25, {**PATCHES, "distilled": True}),
    Form("SiTTokensAndMean", "sit_classifier", 2 + 25, {**PATCHES, "distilled": True, "head": "tokens_and_mean"}),
    Form("SiTTokenAndMean", "sit_classifier", 1 + 25, {**PATCHES, "distilled": False, "head": "token_and_mean"}),
)
