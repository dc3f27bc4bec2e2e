"""The small recipe of VATT at its full length, minutes on two cores: `make recipe-runs` alone runs it."""

import pytest

from hf_vits.training import train
from tests.support.paths import RECIPES


@pytest.mark.timeout(3600)
def test_clips_find_their_sounds_and_captions(tmp_path):
    """Recall among ten clips of different digits, whose scans and voices are not in training."""
    measured = train(RECIPES / "speaking_digits_vatt.yaml", [f"output.directory={tmp_path}"])["test"]
    assert measured["sound_recall"] >= 0.6
    assert measured["text_recall"] >= 0.6
    assert measured["linear_accuracy"] >= measured["untrained_linear_accuracy"] + 0.2
