"""Tiny forms of the method, on which the conformance tests run, and the one that the other shared tests use."""

from tests.models.hip.forms import BLOCKS
from tests.support.forms import PretrainingForm

FORMS = (
    PretrainingForm("HipMAE", "hip_mae", {"modalities": [["image", 900, 3]], **BLOCKS}, inputs=("images",), tokens=24),
)

TINY = {"modalities": [["image", 32 * 32, 3]], **BLOCKS}
