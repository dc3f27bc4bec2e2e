"""Tiny forms of the method, on which the conformance tests run, and the one that the other shared tests use."""

from tests.support.forms import LAYERS, PATCHES, SIZES, TINY_DEIT, TINY_SWIN, PretrainingForm

TINY_DECODER = {
    "decoder_hidden_size": 16,
    "decoder_num_hidden_layers": 2,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 24,
}
CLIP = {"model_type": "clip_vision_model", **LAYERS, "image_size": 30, "patch_size": 6, "projection_dim": 20}
MASKS = ("images", "order")
FORMS = (
    PretrainingForm(
        "MILAN",
        "milan",
        {
            "backbone_config": {"model_type": "hf_vits_vit", **PATCHES},
            "target_config": CLIP,
            "project_target": False,
            **TINY_DECODER,
        },
        inputs=MASKS,
        skips={
            "test_can_init_all_missing_weights": "transformers' CLIP, which is only loaded here, does not initialise "
            "weights that a checkpoint lacks as it initialises new ones"
        },
    ),
    PretrainingForm(
        "MILANSwin",
        "milan",
        {
            "backbone_config": TINY_SWIN,
            "target_config": {**TINY_DEIT, "image_size": 32, "patch_size": 4},
            "decoder_type": "ordinary",
            **TINY_DECODER,
        },
        inputs=MASKS,
    ),
)

TINY = {
    "backbone_config": {"model_type": "hf_vits_vit", **SIZES, "patch_size": 8},
    "target_config": {"model_type": "hf_vits_deit", **SIZES, "patch_size": 8},
    **TINY_DECODER,
    "decoder_num_hidden_layers": 1,
}
