"""A segmentation head of transformers trains over a backbone of ours, on masks of real photographs."""

import runpy
from statistics import mean

from PIL import Image

from tests.support.paths import RECIPES

SCRIPT = RECIPES / "upernet_coat_photographs.py"


def test_upernet_over_coat_learns_the_masks_of_photographs(tmp_path, capsys):
    picture = tmp_path / "upernet.png"
    losses, iou = runpy.run_path(str(SCRIPT))["main"]([str(picture), "--steps", "30"])
    assert mean(losses[-5:]) < 0.5 * mean(losses[:5])
    assert iou > 0.6
    assert f"iou={iou:.3f}" in capsys.readouterr().out
    assert min(Image.open(picture).size) > 500
