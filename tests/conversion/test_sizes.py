"""Every published variant has the size of the original's code: parameters exactly, multiply-adds within 2 %.

The figures are in `model_cards/variants/`, both figures where this implementation needs fewer multiply-adds than the
original's code.
"""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from hf_vits.cli.models import variant_model
from hf_vits.conversion import SYSTEMS, variants
from hf_vits.deployment.inputs import encoder_of, one_input
from model_cards.variants import load
from tests.support.meta import RememberedShapes

SIZES = {name: {variant: row for rows in load(name).values() for variant, row in rows.items()} for name in SYSTEMS}
ROWS = [(name, variant) for name, table in SIZES.items() for variant in table]
# Branchformer's multiply-adds are for ten seconds of speech, a spectrogram of (1000, 80).
INPUTS = {"branchformer": {"input_features": torch.empty(1, 1000, 80, device="meta")}}


@pytest.mark.parametrize(("name", "variant"), ROWS)
def test_parameters_and_multiply_adds(name, variant):
    expected, model = SIZES[name][variant], variant_model(name, variant)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected["parameters"]
    original = expected.get("multiply-adds")
    if original is None:
        return
    own = expected.get("multiply-adds of hf_vits", original)
    model.set_attn_implementation("eager")  # whose products the counter sees
    model.requires_grad_(False)  # torch's counter fails on views of parameters that require a gradient
    with RememberedShapes(), FlopCounterMode(display=False) as counter, torch.no_grad():
        # A classifier on the class token would leave out what nobody reads of the last layer.
        model(**INPUTS.get(name) or one_input(encoder_of(model)), output_hidden_states=True)
    assert counter.get_total_flops() / 2e9 == pytest.approx(own, rel=0.02)
    assert own <= original


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_tables_hold_every_variant(name):
    assert SIZES[name].keys() == variants(name).keys()
