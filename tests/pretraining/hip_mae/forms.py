"""Tiny forms of the method, on which the conformance tests run, and the one that the other shared tests use."""

from tests.models.hip.forms import BLOCKS
from tests.support.forms import PretrainingForm

BLOCKWISE = "each block has latents and attentions of its own shape, which are tested with the model alone"
FORMS = (
    PretrainingForm(
        "HipMAE",
        "hip_mae",
        {"modalities": [["image", 900, 3]], **BLOCKS},
        inputs=("images",),
        tokens=24,
        skips={
            "test_attention_outputs": BLOCKWISE,
            "test_hidden_states_output": BLOCKWISE,
            "test_num_layers_is_small": "encoder, processor and decoder are three blocks",
        },
    ),
)

TINY = {"modalities": [["image", 32 * 32, 3]], **BLOCKS}
