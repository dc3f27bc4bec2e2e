"""Views of two images mixed by MixUp and CutMix, and the weights that EsViT's loss takes."""

import pytest
import torch

from hf_vits.pretraining.method import collate
from hf_vits.recipe.pretraining import ViewsRecipe
from hf_vits.training import train
from hf_vits.training.examples.mixed_views import MixedViews
from tests.support.paths import RECIPES


def samples(count: int) -> list[dict]:
    """Samples whose every pixel is the number of the image."""
    return [
        {
            "pixel_values": torch.full((2, 1, 8, 8), float(number)),
            "local_pixel_values": torch.full((2, 1, 4, 4), float(number)),
            "seed": 7 * number,
        }
        for number in range(count)
    ]


@pytest.mark.parametrize("fields", [{"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.8, "cutmix": 1.0}], ids=str)
def test_weights_are_the_fractions_of_the_pixels(fields):
    batch = MixedViews(collate, ViewsRecipe(**fields, num_mixed=3))(samples(4))
    mixing = batch["mixing"]
    assert mixing.shape == (4, 4, 4)
    assert torch.equal(mixing[3], torch.eye(4))  # the fourth view is not mixed
    assert not torch.equal(mixing[0], mixing[1])
    sizes = [*batch["pixel_values"].unbind(1), *batch["local_pixel_values"].unbind(1)]
    for view, weights in zip(sizes, mixing, strict=True):
        torch.testing.assert_close(view.mean(dim=(1, 2, 3)), torch.arange(4.0) @ weights)
        torch.testing.assert_close(weights.sum(0), torch.ones(4))


def test_halves_of_a_batch_are_mixed_as_in_the_whole():
    collator = MixedViews(collate, ViewsRecipe(mixup=0.8, cutmix=1.0))
    whole, half = collator(samples(4)), collator(samples(4)[2:])
    assert torch.equal(whole["pixel_values"][2:], half["pixel_values"])
    assert torch.equal(whole["mixing"][:, 2:, 2:], half["mixing"])
    with pytest.raises(ValueError, match="even number, got 3"):
        collator(samples(3))


def test_a_probability_of_zero_mixes_nothing():
    batch = MixedViews(collate, ViewsRecipe(mixup=0.8, mix_probability=0.0))(samples(2))
    assert torch.equal(batch["pixel_values"], collate(samples(2))["pixel_values"])
    assert torch.equal(batch["mixing"], torch.eye(2).expand(4, 2, 2))


def test_a_recipe_of_esvit_mixes_views_unless_regions_are_matched(tmp_path):
    changes = {
        "data.source": "digits",
        "data.path": "null",
        "data.test_fraction": 0.2,
        "views.mixup": 0.8,
        "views.cutmix": 1.0,
        "neighbours": "null",
        "train.length": "2 steps",
        "train.batch_size": 8,
        "train.evaluate_every": "null",
        "train.save_every": "null",
        "train.workers": 0,
        "schedule.warmup": "1 steps",
        "output.directory": tmp_path,
    }
    overrides = [f"{key}={value}" for key, value in changes.items()]
    with pytest.raises(ValueError, match="EsViT with use_regions=False"):
        train(RECIPES / "fashion_mnist_esvit.yaml", overrides)
    train(RECIPES / "fashion_mnist_esvit.yaml", [*overrides, "model.config.use_regions=false"])
    assert (tmp_path / "model.safetensors").is_file()
