"""Tiny forms of the architecture, on which the conformance tests run, and the one that the other shared tests use."""

from tests.support.forms import Form

BLOCKS = {
    "embedding_size": 16,
    "num_groups": [4, 1, 4],
    "num_latents": [6, 8, 6],
    "hidden_sizes": [16, 32, 24],
    "depths": [1, 1, 1],
    "num_attention_heads": [2, 4, 2],
    "mlp_ratios": [2, 2, 2],
}
ONE_BLOCK = {name: value[:1] for name, value in BLOCKS.items() if isinstance(value, list)} | {"num_groups": [1]}
ONE_BLOCK |= {"num_cross_attention_heads": [2], "cross_mlp_ratios": [2], "embedding_size": 16}
LABELLED = {"modalities": [["waveform", 25, 4], ["label", 3, 1]], "label_modalities": ["label"]}
FORMS = (
    Form(
        "Hip",
        "hip",
        4 * 6,
        {"modalities": [["points", 30, 3]], **BLOCKS},
        attentions=7,
        attention=(1, 6, 8),
        maps=((4, 8, 16), (4, 6, 16), (1, 8, 32), (4, 6, 24)),
        auto_classes=("AutoModel", "AutoModelForPreTraining"),
    ),
    Form(
        "HipPerceiverIo",
        "hip",
        6,
        {"modalities": [["points", 30, 3]], **ONE_BLOCK},
        attentions=3,
        attention=(2, 6, 30),
        maps=((1, 30, 16), (1, 6, 16)),
        auto_classes=("AutoModel",),
    ),
    Form(
        "HipImage",
        "hip",
        8,
        {
            "modalities": [["image", 900, 3]],
            "regroup_type": "transpose_reshape",
            "use_position_projection": False,
            **BLOCKS,
        },
        attentions=4,
        attention=(1, 6, 225),
        maps=((4, 225, 16), (4, 6, 16), (1, 8, 32)),
        auto_classes=("AutoModelForImageClassification",),
    ),
    Form(
        "HipClassBottleneckAudio",
        "hip",
        8,
        {**LABELLED, **BLOCKS},
        attentions=4,
        attention=(1, 6, 7),
        maps=((4, 7, 16), (4, 6, 16), (1, 8, 32)),
        auto_classes=("AutoModelForAudioClassification",),
    ),
)

TINY_MODALITIES = {
    "modalities": [["image", 32 * 32, 3], ["waveform", 100, 4]],
    "datasets": [["image"], ["waveform"]],
    **BLOCKS,
    "hidden_sizes": [16, 16, 16],
}
