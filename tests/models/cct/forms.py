"""Tiny forms of the architecture, on which the conformance tests run, and the one that the other shared tests use."""

from tests.support.forms import IMAGE, LAYERS, SIZES, WORDS, Form

TEXT = {**LAYERS, "vocab_size": 40, "max_position_embeddings": WORDS}
# Where the smallest variant, and so the default configuration, has two.
FOUR_LAYERS = {"num_hidden_layers": 4}
FORMS = (
    Form("Cct", "cct", 8 * 8, {**IMAGE, "conv_hidden_size": 16}, backbone=FOUR_LAYERS),
    Form(
        "CctViTLite",
        "cct",
        1 + 25,
        {
            **IMAGE,
            "kernel_size": 6,
            "stride": 6,
            "padding": 0,
            "num_conv_layers": 1,
            "conv_bias": True,
            "conv_act": None,
            "use_max_pool": False,
            "pooling": "token",
            "position_embedding_type": "sine",
        },
        backbone=FOUR_LAYERS,
    ),
    Form("CctText", "cct_text", 7, {**TEXT, "word_embedding_size": 16, "kernel_size": 2}),
    Form(
        "CctTextTransformerLite",
        "cct_text",
        1 + WORDS,
        {
            **TEXT,
            "word_embedding_size": 32,
            "use_convolution": False,
            "pooling": "token",
            "position_embedding_type": "learned",
        },
        skips={"test_flex_attention_with_grads": "of a GPU; widens the layers, but not the words that they read"},
    ),
)

TINY = {**SIZES, "conv_hidden_size": 8}
