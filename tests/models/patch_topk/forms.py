"""Tiny forms of the architecture, on which the conformance tests run, and the one that the other shared tests use."""

from tests.support.forms import Form

CNN = {"hidden_sizes": [8, 16], "strides": [1, 2]}
RESNET = {"network": "resnet", "hidden_sizes": [4, 8], "depths": [1, 1], "layer_type": "bottleneck"}
FEATURES = {"model_type": "hf_vits_patch_cnn", "image_size": 8, **CNN}
SELECTION = {
    "image_size": 32,
    "patch_size": 8,
    "num_patches": 3,
    "downscale": 1,
    "num_samples": 20,
    "num_hidden_layers": 2,
    "feature_config": FEATURES,
}
TRANSFORMER = {
    "aggregation_method": "transformer",
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "hidden_dropout_prob": 0.0,
}
NO_ATTENTION = {"has_attentions": False}
NO_LAYERS = dict.fromkeys(
    (
        "test_hidden_states_output",
        "test_retain_grad_hidden_states_attentions",
        "test_can_capture_specific_layers_hidden_states",
    ),
    "the features of the patches pass no layers",
)
PARTS = {
    "image_size": 64,
    "feature_config": {"hidden_sizes": [8, 8, 16], "strides": [2, 4, 4]},
    "proposal_size": 16,
    "anchor_sizes": [12, 24, 40],
    "num_parts": 2,
    "part_size": 16,
    "num_samples": 20,
    "dropout_prob": 0.0,
    "num_attention_heads": 4,
}
FORMS = (
    Form("PatchSelection", "patch_selection", 3, SELECTION, flags=NO_ATTENTION, skips=NO_LAYERS),
    Form(
        "PatchSelectionTransformer",
        "patch_selection",
        3,
        {**SELECTION, **TRANSFORMER},
        layers=2,
        attentions=2,
    ),
    Form(
        "PatchCnn", "patch_cnn", 100, {"image_size": 20, **CNN}, flags=NO_ATTENTION, maps=((8, 20, 20), (16, 10, 10))
    ),
    Form(
        "PatchResNet",
        "patch_cnn",
        9,
        {"image_size": 20, **RESNET},
        flags=NO_ATTENTION,
        maps=((4, 5, 5), (16, 5, 5), (32, 3, 3)),
    ),
    Form("NtsNet", "nts_net", 2, PARTS, flags=NO_ATTENTION, skips=NO_LAYERS),
)

TINY = SELECTION
