"""Corruptions of ImageNet-C: by definition where it is short, by loops where ours has none, and what all must keep."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from hf_vits.analysis.robustness import corruptions, filters
from hf_vits.analysis.robustness.corruptions import CORRUPTIONS, EXTRA, IMAGENET_C, corrupt


@pytest.fixture(scope="module")
def images():
    """Smooth pictures with edges, (2, 3, 40, 56) uint8, of sides that no power of two divides."""
    generator = torch.Generator().manual_seed(0)
    smooth = filters.gaussian_blur(torch.randn(2, 3, 40, 56, generator=generator), 3)
    return (smooth / smooth.std() * 50 + 120 + 40 * (smooth > 0)).clamp(0, 255).to(torch.uint8)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_benchmark_has_15_and_4_more():
    assert len(IMAGENET_C) == 15
    assert EXTRA == ("speckle_noise", "gaussian_blur", "spatter", "saturate")


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_corruption_is_repeatable_and_takes_both_kinds_of_images(images, name):
    for severity in (1, 5):
        first, again = (corrupt(images, name, severity, seeded()) for _ in range(2))
        assert first.dtype == torch.uint8
        assert first.shape == images.shape
        assert torch.equal(first, again)
        assert not torch.equal(first, images)
        fractions = corrupt(images.float() / 255, name, severity, seeded())
        # JPEG and pixels round to grey levels by themselves.
        assert (fractions * 255 - first).abs().max() <= 1.001
        assert 0 <= fractions.min() <= fractions.max() <= 1


def test_images_of_a_batch_are_corrupted_differently(images):
    twice = images[:1].expand(2, -1, -1, -1)
    random = set(CORRUPTIONS) - {"defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "saturate"}
    for name in sorted(random - {"jpeg_compression", "gaussian_blur"}):
        first, second = corrupt(twice, name, 5, seeded(1))
        assert not torch.equal(first, second), name


def test_gaussian_blur_is_scipys(images):
    fractions = images.double().numpy() / 255
    for sigma in (1, 6):
        expected = ndimage.gaussian_filter(fractions, (0, 0, sigma, sigma), mode="nearest")
        blurred = filters.gaussian_blur(torch.from_numpy(fractions).float(), sigma)
        assert np.abs(blurred.numpy() - expected).max() < 1e-5
    expected = ndimage.gaussian_filter(fractions, (0, 0, 60, 60), mode="reflect", truncate=3)
    blurred = filters.gaussian_blur(torch.from_numpy(fractions).float(), 60, 3, "reflect")
    assert np.abs(blurred.numpy() - expected).max() < 1e-5  # wider than the image


def test_zoom_blur_is_the_mean_of_scipys_zooms(images):
    image = images[0].permute(1, 2, 0).numpy() / 255
    total, factors = image.copy(), np.arange(1, 1.11, 0.01)
    for factor in factors:
        rows, columns = (math.ceil(size / factor) for size in image.shape[:2])
        top, left = (image.shape[0] - rows) // 2, (image.shape[1] - columns) // 2
        cut = image[top : top + rows, left : left + columns]
        zoomed = ndimage.zoom(cut, (factor, factor, 1), order=1)[: image.shape[0], : image.shape[1]]
        total[: zoomed.shape[0], : zoomed.shape[1]] += zoomed
    expected = np.uint8(np.clip(total / (len(factors) + 1), 0, 1) * 255)
    ours = corrupt(images[:1], "zoom_blur", 1)[0].permute(1, 2, 0).numpy()
    assert np.abs(ours.astype(int) - expected).max() <= 1


def test_motion_blur_is_a_sum_of_shifted_images(images):
    image, radius, sigma = images.float() / 255, 10, 3
    angles = torch.tensor([27.0, -118.0])
    blurred = filters.motion_blur(image, radius, sigma, angles)
    weights = np.exp(-0.5 * (np.arange(2 * radius + 1) / sigma) ** 2)
    weights /= weights.sum()
    for index, angle in enumerate(np.deg2rad(angles.numpy())):
        expected = torch.zeros_like(image[index])
        for step, weight in enumerate(weights):
            down, right = (-math.ceil(step * part(angle) - 0.5) for part in (np.sin, np.cos))
            rows = (torch.arange(40) - down).clamp(0, 39)
            columns = (torch.arange(56) - right).clamp(0, 55)
            expected += weight * image[index][:, rows][..., columns]
        assert (blurred[index] - expected).abs().max() < 1e-5


def test_glass_takes_neighbours_one_pixel_after_the_other(images):
    image, reach, rounds = images[:1].float(), 2, 2
    offsets = torch.randint(-reach, reach, (rounds, 2, 1, 36, 52), generator=seeded())
    expected = image[0].clone()
    for number in range(rounds):
        for row in range(40 - reach, reach, -1):
            for column in range(56 - reach, reach, -1):
                place = (0, row - reach - 1, column - reach - 1)
                down, right = (int(offsets[(number, axis, *place)]) for axis in (0, 1))
                expected[:, row, column] = expected[:, row + down, column + right]
    assert torch.equal(corruptions.take_neighbours(image, offsets, reach)[0], expected)


def test_brightness_and_saturation_are_those_of_hsv(images):
    import colorsys

    image = images[0, :, ::8, ::8].float() / 255
    for name, severity, change in (
        ("brightness", 3, lambda h, s, v: (h, s, min(v + 0.3, 1))),
        ("saturate", 4, lambda h, s, v: (h, min(s * 5 + 0.1, 1), v)),
    ):
        ours = CORRUPTIONS[name](image[None], severity, None)[0].flatten(1).T
        expected = [
            colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*pixel))) for pixel in image.flatten(1).T.tolist()
        ]
        assert torch.allclose(ours, torch.tensor(expected), atol=1e-5)
    black, grey = torch.zeros(1, 3, 1, 1), torch.full((1, 3, 1, 1), 0.5)
    assert CORRUPTIONS["brightness"](black, 1, None).flatten().tolist() == pytest.approx([0.1] * 3)
    # Grey has no hue: it turns red.
    assert CORRUPTIONS["saturate"](grey, 5, None).flatten().tolist() == pytest.approx([0.5, 0.4, 0.4])


def test_pixels_and_jpeg_are_pillows(images):
    import io

    from PIL import Image

    picture = Image.fromarray(images[0].permute(1, 2, 0).numpy())
    small = picture.resize((int(56 * 0.4), int(40 * 0.4)), Image.Resampling.BOX)
    expected = np.asarray(small.resize(picture.size, Image.Resampling.NEAREST)).astype(int)
    assert np.abs(corrupt(images[:1], "pixelate", 3)[0].permute(1, 2, 0).numpy() - expected).max() <= 1
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=15)
    expected = np.asarray(Image.open(buffer)).astype(int)
    assert np.abs(corrupt(images[:1], "jpeg_compression", 3)[0].permute(1, 2, 0).numpy() - expected).max() <= 1


def test_noise_has_the_deviation_and_frequency_of_its_severity():
    grey = torch.full((4, 3, 64, 64), 0.5)
    assert corrupt(grey, "gaussian_noise", 1, seeded()).std().item() == pytest.approx(0.08, rel=0.03)
    assert corrupt(grey, "speckle_noise", 3, seeded()).std().item() == pytest.approx(0.5 * 0.35, rel=0.03)
    assert corrupt(grey, "shot_noise", 1, seeded()).std().item() == pytest.approx((0.5 / 60) ** 0.5, rel=0.03)
    salt = corrupt(grey, "impulse_noise", 5, seeded())
    assert (salt == 1).float().mean().item() == pytest.approx(0.135, rel=0.05)
    assert (salt == 0).float().mean().item() == pytest.approx(0.135, rel=0.05)


def test_an_elastic_transform_without_offsets_changes_nothing(images):
    fractions = images.float() / 255
    moved = corruptions.move_points(fractions, torch.zeros(2, 3, 2))
    assert (moved - fractions).abs().max() < 1e-4
    # All three points two pixels to the right: so does the image.
    moved = corruptions.move_points(fractions, torch.tensor([2.0, 0.0]).expand(2, 3, 2))
    assert (moved[..., 2:] - fractions[..., :-2]).abs().max() < 1e-4


def test_drops_have_distances_to_edges_of_steps():
    edge = torch.zeros(1, 1, 9, 9, dtype=torch.bool)
    edge[..., 4, 4] = True
    distances = corruptions.edge_distances(edge)[0, 0]
    assert distances[4, 4:].tolist() == pytest.approx([0, 1, 2, 3, 4])
    assert distances[5, 5:7].tolist() == pytest.approx([1.4, 2.1969])
    step = torch.zeros(1, 1, 9, 9)
    step[..., 5:] = 200
    found = corruptions.edges(step, 50, 150)[0, 0]
    assert found.sum(1).tolist() == [1] * 9  # thin
    assert found[:, 4:6].any(1).all()


def test_frost_blends_in_given_textures(images):
    white = torch.full((3, 20, 20), 255, dtype=torch.uint8)  # smaller than the images
    frosted = corrupt(images, "frost", 1, seeded(), textures=[white])
    expected = (images.float() + 0.4 * 255).clamp(max=255).floor()
    assert (frosted.float() - expected).abs().max() <= 1
    ice = corruptions.ice_textures(count=2, size=64)
    assert ice.shape == (2, 3, 64, 64)
    assert (ice[:, 2].mean() > ice[:, 0].mean()).item()  # bluish


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("fogg", 1), ValueError, "unknown corruption 'fogg'; expected one of gaussian_noise"),
        (("fog", 6), ValueError, "severity must be 1, 2, 3, 4 or 5, got 6"),
        (("fog", 1, None, [torch.zeros(3, 9, 9)]), TypeError, 'textures belong to "frost"'),
    ],
)
def test_bad_arguments_are_refused(images, arguments, error, message):
    with pytest.raises(error, match=message):
        corrupt(images, *arguments)


def test_bad_images_are_refused(images):
    with pytest.raises(ValueError, match=r"images must be \(batch, 3, height, width\)"):
        corrupt(images[:, :1], "fog")
    with pytest.raises(TypeError, match=r"uint8, or floating from 0 to 1, got torch.int64"):
        corrupt(images.long(), "fog")
