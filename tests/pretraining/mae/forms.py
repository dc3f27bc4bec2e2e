"""Tiny forms of the method, on which the conformance tests run, and the one that the other shared tests use."""

from tests.support.forms import PATCHES, SIZES, PretrainingForm

TINY_DECODER = {
    "decoder_hidden_size": 16,
    "decoder_num_hidden_layers": 2,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 24,
}
FORMS = (PretrainingForm("MAE", "mae", {**PATCHES, **TINY_DECODER}, inputs=("images", "noise"), tokens=1 + 6),)

TINY = {
    **SIZES,
    "patch_size": 8,
    "decoder_hidden_size": 16,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 24,
}
