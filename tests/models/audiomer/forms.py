"""Tiny forms of the architecture, on which the conformance tests run, and the one that the other shared tests use."""

from tests.support.forms import Form

# Without dropout, else two layers do not learn a batch by heart.
WAVES = {"hidden_sizes": [16, 32], "head_dim": 8, "num_random_features": 12}
WAVES |= {"hidden_dropout_prob": 0.0, "classifier_dropout_prob": 0.0}
NO_EMBEDDINGS = {"test_model_get_set_embeddings": "samples of a waveform are not embedded"}
RANDOM_FEATURES = {
    "test_init_weights_can_init_buffers": "random features are drawn anew; tests/models/audiomer tests that they are"
}
# Random-feature attention has no probabilities.
NO_ATTENTIONS = {"has_attentions": False}
# Of the original's weights, this form does not read all.
UNUSED_CONTEXT = {"test_all_params_have_gradient": False}
FORMS = (
    Form(
        "Audiomer",
        "audiomer",
        62,
        WAVES,
        maps=((1, 228), (16, 117), (32, 62)),
        flags=NO_ATTENTIONS,
        skips=NO_EMBEDDINGS | RANDOM_FEATURES,
    ),
    Form(
        "AudiomerReleased",
        "audiomer",
        62,
        {**WAVES, "attention_type": "self"},
        maps=((1, 228), (16, 117), (32, 62)),
        flags={**NO_ATTENTIONS, **UNUSED_CONTEXT},
        skips=NO_EMBEDDINGS | RANDOM_FEATURES,
    ),
    Form(
        "AudiomerConvolutions",
        "audiomer",
        30,
        {**WAVES, "use_attention": False, "use_squeeze_excitation": False, "pooling": "mean"},
        maps=((1, 100), (16, 53), (32, 30)),
        flags={**NO_ATTENTIONS, **UNUSED_CONTEXT},
        skips=NO_EMBEDDINGS
        | {"test_retain_grad_hidden_states_attentions": "its first hidden state is the waveform, without gradient"},
    ),
)

TINY = {"hidden_sizes": [4, 8, 16], "head_dim": 8, "num_random_features": 12}
