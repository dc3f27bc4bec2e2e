"""Tiny forms of the architecture, on which the conformance tests run, and the one that the other shared tests use."""

from tests.support.forms import LAYERS, SIZES, WORDS, Form

# Without dropout, else two layers do not learn a batch by heart.
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
CLIPS = {**LAYERS, **STILL, "image_size": 16, "num_frames": 4, "tubelet_size": [2, 8, 8], "classifier_dropout_prob": 0}
WAVES = {**LAYERS, **STILL, "patch_size": 8, "num_samples": 96}
TEXTS = {**LAYERS, **STILL, "vocab_size": 50, "embedding_size": 20, "max_position_embeddings": WORDS}
PROJECTED = {"pre_projection": True, "post_projection_size": 32}
ABSOLUTE = {"position_embedding_type": "absolute", "use_bias": True}
NO_FLAT_STATES = {"has_attentions": False, "_is_composite": True}
SPACES = {"video_audio_size": 16, "video_text_size": 12}
NO_SEQUENCE = "each modality has states of its own, which are tested with its encoder"
COMPOSITE = {
    "test_hidden_states_output": NO_SEQUENCE,
    "test_retain_grad_hidden_states_attentions": NO_SEQUENCE,
    "test_can_capture_specific_layers_hidden_states": NO_SEQUENCE,
    "test_model_get_set_embeddings": "each modality has embeddings of its own",
    **dict.fromkeys(
        ("test_get_text_features_output_0", "test_get_text_features_output_2"),
        "the aggregation token is before the words, so that there is one token more",
    ),
}
# Not trained are the word embeddings.
FROZEN = {"test_all_params_have_gradient": False}
FORMS = (
    Form("VattVideo", "vatt_video", 1 + 8, CLIPS, auto_classes=("AutoModel", "AutoModelForVideoClassification")),
    Form(
        "VattVideoProjected",
        "vatt_video",
        1 + 8,
        {**CLIPS, **PROJECTED, "use_bias": False},
        auto_classes=("AutoModel", "AutoModelForVideoClassification"),
    ),
    Form("VattImages", "vatt_video", 1 + 4, CLIPS, auto_classes=("AutoModelForImageClassification",), inputs="images"),
    Form("VattWaveforms", "vatt_audio", 1 + 13, WAVES),
    Form(
        "VattSpectrograms",
        "vatt_audio",
        1 + 8,
        {
            **LAYERS,
            **STILL,
            "input_type": "spectrogram",
            "patch_size": [4, 3],
            "num_frames": 10,
            "num_mel_bins": 12,
            "use_bias": False,
        },
        inputs="input_features",
    ),
    Form("VattText", "vatt_text", 1 + WORDS, TEXTS, flags=FROZEN),
    Form(
        "VattTextAbsolute",
        "vatt_text",
        1 + WORDS,
        {**TEXTS, **PROJECTED, **ABSOLUTE},
        flags=FROZEN,
        skips=dict.fromkeys(
            ("test_pipeline_feature_extraction", "test_pipeline_feature_extraction_fp16"),
            "as in the original, positions are resized to the padded length, so that features depend on a batch's",
        ),
    ),
    Form(
        "Vatt",
        "vatt",
        1 + 8,
        {**SPACES, "video_config": CLIPS, "audio_config": WAVES, "text_config": TEXTS},
        flags={**NO_FLAT_STATES, **FROZEN},
        skips=COMPOSITE,
        inputs="modalities",
    ),
    Form(
        "VattAgnostic",
        "vatt",
        1 + 8,
        {
            **SPACES,
            "shared_encoder": True,
            "video_config": CLIPS | PROJECTED,
            "audio_config": WAVES | PROJECTED,
            "text_config": TEXTS | PROJECTED | ABSOLUTE,
        },
        flags={**NO_FLAT_STATES, **FROZEN},
        skips=COMPOSITE,
        inputs="modalities",
    ),
)

TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "patch_size": 40,
    "num_samples": 400,
}
TINY_CLIPS = {**SIZES, "num_frames": 4, "tubelet_size": [2, 8, 8]}
