"""Tiny forms of the architecture, on which the conformance tests run, and the one that the other shared tests use."""

from tests.support.forms import Form

BINS = {
    "num_mel_bins": 12,
    "num_frames": 10,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "head_dim": 12,
    "intermediate_size": 40,
}
FORMS = (
    Form("SepTr", "septr", 1 + 120, BINS, attentions=4, attention=(2, 13, 13), maps=((32, 12, 10),) * 3),
    Form(
        "SepTrTimeFirst",
        "septr",
        1 + 6 * 3,
        {**BINS, "axes": ["time", "frequency"], "pool_size": [2, 3], "num_attention_heads": 1, "head_dim": 32},
        attentions=4,
        attention=(1, 4, 4),
        maps=((32, 6, 3),) * 3,
    ),
)

TINY = {
    "num_mel_bins": 12,
    "num_frames": 10,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "head_dim": 12,
    "intermediate_size": 32,
}
