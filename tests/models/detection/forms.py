"""Tiny forms of the detectors, on which the conformance tests run, and those that other tests use."""

from tests.support.forms import Form

SWIN = {
    "model_type": "hf_vits_swin",
    "image_size": 32,
    "patch_size": 4,
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
    "num_attention_heads": [2, 2],
    "window_size": 4,
    "squeeze_sizes": [4, 4],
    "shift_like": "image_size",
    "out_features": ["stage1", "stage2"],
}
BACKBONE = {
    "backbone_config": SWIN,
    "feature_strides": [4, 8],
    "pyramid_size": 8,
    "max_detections": 10,
    "score_threshold": 0.0,
}
DENSE = {**BACKBONE, "anchor_sizes": [[8, 12], [16, 20], [24, 32], [40, 48]], "head_num_layers": 1}
REGIONS = {
    **BACKBONE,
    "anchor_sizes": [[8], [16], [32]],
    "train_max_proposals": 30,
    "max_proposals": 20,
    "regions_per_image": 16,
    "head_size": 8,
    "box_linear_size": 12,
    "mask_num_convolutions": 1,
}
CASCADE = {
    **REGIONS,
    "stage_thresholds": [0.5, 0.6],
    "stage_weights": [[10, 10, 5, 5], [20, 20, 10, 10]],
    "class_agnostic_boxes": True,
    "head_norm": True,
    "box_num_convolutions": 1,
    "box_num_linear": 1,
    "proposal_num_layers": 2,
}
NO_STATES = {"has_attentions": False}
SKIPS = {
    **dict.fromkeys(
        (
            "test_hidden_states_output",
            "test_retain_grad_hidden_states_attentions",
            "test_can_capture_specific_layers_hidden_states",
        ),
        "a detector returns detections; the states of its backbone are those of the backbone alone",
    ),
}
FORMS = (
    Form("RetinaNet", "retina_net", 8 * 8, DENSE, flags=NO_STATES, skips=SKIPS),
    Form("MaskRcnn", "mask_rcnn", 8 * 8, REGIONS, flags=NO_STATES, skips=SKIPS),
    Form("CascadeMaskRcnn", "mask_rcnn", 8 * 8, CASCADE, flags=NO_STATES, skips=SKIPS),
)
