"""Small recipes that learn without labels at their full length, minutes each: `make recipe-runs` alone runs them."""

import pytest

from hf_vits.training import train
from tests.support.paths import RECIPES

# By how much neighbours in the learnt features know more classes of test images than in those of the untrained
# backbone, and than in the pixels themselves.
MARGINS = {
    "mae": (0.2, 0.015),
    "sit": (0.2, 0.02),
    "esvit": (0.2, 0.02),
    "dino": (0.2, 0.025),
    "ibot": (0.2, 0.02),
    "attmask": (0.2, 0.02),
}


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("method", MARGINS)
def test_features_tell_more_than_an_untrained_backbone_and_than_pixels(tmp_path, method):
    measured = train(RECIPES / f"fashion_mnist_{method}.yaml", [f"output.directory={tmp_path}"])["test"]
    over_untrained, over_pixels = MARGINS[method]
    assert measured["knn_accuracy"] > measured["untrained_knn_accuracy"] + over_untrained
    assert measured["knn_accuracy"] > measured["pixel_knn_accuracy"] + over_pixels
