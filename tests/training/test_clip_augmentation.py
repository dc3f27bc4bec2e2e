"""Scenic's RandAugment of clips, operation by operation."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from hf_vits import VitsVideoProcessor
from hf_vits.recipe import AugmentationRecipe, RandAugmentRecipe, load_recipe
from hf_vits.training.examples import clip_augmentation
from hf_vits.training.examples.clip_augmentation import OPERATIONS, ClipRandAugment
from hf_vits.training.examples.image_augmentation import training_transform

from ..support.training import tiny_recipe


def picture(height=24, width=30):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, height, width), dtype=np.uint8))


def as_image(picture):
    return Image.fromarray(picture.permute(1, 2, 0).numpy())


def values(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@pytest.mark.parametrize("magnitude", [5, 10, 15, 20])
def test_operations_are_pils_with_the_originals_arguments(magnitude):
    level, image = magnitude / 10, as_image(picture())
    factor = 1.8 * level + 0.1
    expected = {
        1: ImageOps.autocontrast(image),
        3: ImageOps.invert(image),
        4: ImageEnhance.Color(image).enhance(factor),
        5: ImageEnhance.Brightness(image).enhance(factor),
    }
    for number, result in expected.items():
        found = OPERATIONS[number](picture(), level)
        assert (found.int() - values(result).int()).abs().max() <= 3 * max(factor, 1), number
    assert torch.equal(OPERATIONS[0](picture(), level), picture())


def test_levels_of_posterize_and_solarize():
    """Both weaken as the magnitude grows, and the limit of solarize is a byte, which 512 leaves at 0."""
    bits = {5: 2, 10: 4, 15: 6, 20: 8}
    for magnitude, kept in bits.items():
        assert torch.equal(
            clip_augmentation.posterize(picture(), magnitude / 10), picture() >> (8 - kept) << (8 - kept)
        )
    limits = {5: 128, 15: 128, 20: 0}
    for magnitude, limit in limits.items():
        found = clip_augmentation.solarize(picture(), magnitude / 10)
        assert torch.equal(found, torch.where(picture() < limit, picture(), 255 - picture()))
    added = clip_augmentation.solarize_add(picture(), 2.0).int()
    assert torch.equal(added, torch.where(picture() < 128, (picture().int() + 220).clamp(max=255), picture().int()))


def test_contrast_moves_away_from_white_in_clips_and_from_a_darker_grey_in_tiny_ones():
    large = torch.full((3, 300, 300), 250, dtype=torch.uint8)
    assert clip_augmentation.contrast(large, 2.0).unique().tolist() == [int(255 - 3.7 * 5)]
    small = torch.full((3, 16, 32), 10, dtype=torch.uint8)  # 512 pixels: grey is 2
    assert clip_augmentation.contrast(small, 1.0).unique().tolist() == [int(2 + 1.9 * 8)]


def test_squares_are_cut_out_of_all_frames_alike():
    image = torch.full((3, 4 * 100, 120), 7, dtype=torch.uint8)
    sizes = set()
    for seed in range(20):
        torch.manual_seed(seed)
        frames = clip_augmentation.cut_out(image, 0.5, 4).unflatten(1, (4, 100))
        assert torch.equal(frames, frames[:, :1].expand_as(frames))
        rows, columns = (frames[0, 0] == 0).nonzero().T
        sizes.add((int(rows.max() - rows.min() + 1), int(columns.max() - columns.min() + 1)))
    assert max(sizes) == (40, 40)
    assert min(sizes) < (40, 40)  # one that reaches over the border
    assert (image == 7).all()


def test_frames_of_a_clip_are_treated_as_one_picture():
    """The brightest of all frames decides over the contrast of each; frames that are alike stay so."""
    clip = torch.stack([picture() // 4, picture() // 2])
    found = set()
    for seed in range(60):
        torch.manual_seed(seed)
        changed = ClipRandAugment(1, 10)(clip)
        assert changed.shape == clip.shape
        assert changed.dtype == torch.uint8
        found.add(tuple(changed.float().mean((1, 2, 3)).tolist()))
    stretched = OPERATIONS[1](torch.cat(list(clip), dim=1), 1.0).unflatten(1, (2, -1)).transpose(0, 1)
    assert tuple(stretched.float().mean((1, 2, 3)).tolist()) in found
    assert len(found) > 8
    still = picture().expand(3, -1, -1, -1)
    torch.manual_seed(1)
    changed = ClipRandAugment(4, 20)(still)
    assert (changed.int() - changed[:1].int()).abs()[..., 1:-1, :].max() == 0  # sharpness looks over the border


def test_a_recipe_chooses_whose_operations():
    recipe = AugmentationRecipe(randaugment=RandAugmentRecipe(ops=2, magnitude=20.0, policy="scenic"))
    steps = training_transform(recipe, VitsVideoProcessor(), (32, 32)).transforms
    (step,) = [step for step in steps if isinstance(step, ClipRandAugment)]
    assert (step.ops, step.level) == (2, 2.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "augmentation.randaugment={policy: scenic, magnitude: 25}",
            "policy scenic must lie between 0 and 20, got 25",
        ),
        ("augmentation.randaugment={policy: scenic, std: 0.5}", "std goes with policy timm"),
        ("augmentation.randaugment={policy: scenic}", "scenic is for clips, but the task is image-classification"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        load_recipe(tiny_recipe(tmp_path), [change])
