"""Which tests of the mixins cannot apply, and the processors that conformance runs on."""

# Of a model of several passes: the tests of what it returns of its layers.
SEVERAL_PASSES = dict.fromkeys(
    (
        "test_attention_outputs",
        "test_hidden_states_output",
        "test_retain_grad_hidden_states_attentions",
        "test_eager_matches_sdpa_inference",
        "test_can_capture_specific_layers_hidden_states",
    ),
    "views of several sizes pass two backbones, with no one sequence of states; an exported backbone returns its own",
)

VOCABULARY_TESTS = (
    "test_resize_tokens_embeddings",
    "test_resize_embeddings_untied",
    "test_resize_embeddings_untied_no_reinit_on_post_init",
)

ANY_INPUT = {
    "test_sdpa_can_dispatch_composite_models": "no model here is composite",
    "test_resize_position_vector_embeddings": "position tables are resized with the input, not in advance",
}

# {main input: {test: reason}} of tests that the mixins skip themselves, with reasons that would mislead here.
SKIPS = {
    "pixel_values": {**ANY_INPUT, **dict.fromkeys(VOCABULARY_TESTS, "images have no vocabulary")},
    "input_ids": ANY_INPUT,
    "input_values": {**ANY_INPUT, **dict.fromkeys(VOCABULARY_TESTS, "waveforms have no vocabulary")},
    "input_features": {**ANY_INPUT, **dict.fromkeys(VOCABULARY_TESTS, "spectrograms have no vocabulary")},
    "inputs": {**ANY_INPUT, **dict.fromkeys(VOCABULARY_TESTS, "modalities of any kind have no vocabulary")},
}

# Fields of the image processors, one form per convention; each ends in 20 x 20 pixels.
IMAGE_PROCESSORS = {
    "Torchvision": {"size": {"shortest_edge": 24}, "crop_size": {"height": 20, "width": 20}},
    "VisionTransformer": {
        "convention": "vision_transformer",
        "size": {"height": 20, "width": 20},
        "do_center_crop": False,
        "resample": 2,
    },
    "BigVision": {
        "convention": "big_vision",
        "size": {"shortest_edge": 24},
        "crop_size": {"height": 20, "width": 20},
        "resample": 4,
    },
}

# Fields of the video processors, one form per convention.
VIDEO_PROCESSORS = {
    "Slowfast": {"convention": "slowfast"},
    "SlowfastSegments": {"convention": "slowfast_segments"},
    "Scenic": {"convention": "scenic", "image_mean": [0.5] * 3, "image_std": [0.5] * 3},
}
