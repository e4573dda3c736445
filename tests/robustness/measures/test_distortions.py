from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from scipy.stats import kstest, poisson

from tscnc_deploy.robustness.measures import distortions
from tscnc_deploy.robustness.noise import Noise


def noise(count, seed=0):
    return Noise(seed, torch.arange(count), "test")


def grey(count, value=0.5, channels=1, side=32):
    return torch.full((count, channels, side, side), value)


def textured(count, channels=3, side=8):
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(0))


def point(side=9, count=1):
    """A white pixel in the middle of black ones."""
    image = torch.zeros(count, 1, side, side)
    image[:, 0, side // 2, side // 2] = 1.0
    return image


def test_gaussian_noise_is_normal_with_its_deviation():
    added = distortions.gaussian_noise(grey(20), noise(20), 0.1) - 0.5
    assert kstest(added.flatten().double().numpy() / 0.1, "norm").pvalue > 0.01


@pytest.mark.parametrize(("value", "photons"), [(1.0, 50), (0.5, 500), (0.05, 75)])
def test_shot_noise_counts_photons_that_are_poisson_distributed(value, photons):
    shot = distortions.shot_noise(grey(20, value), noise(20), photons)
    counts = (shot * photons).flatten()
    assert torch.equal(counts.round() / photons, shot.flatten())
    grid = np.arange(400)
    measured = np.bincount(counts.round().long().numpy(), minlength=400).cumsum() / counts.numel()
    # Kolmogorov's bound at 1% for so many numbers.
    assert np.abs(measured - poisson.cdf(grid, value * photons)).max() < 1.63 / math.sqrt(counts.numel())


def test_black_has_no_shot_noise():
    assert torch.equal(distortions.shot_noise(grey(2, 0.0), noise(2), 50), grey(2, 0.0))


def test_impulse_noise_sets_a_share_of_the_values_to_black_and_white():
    struck = distortions.impulse_noise(grey(20), noise(20), 0.07)
    for value, share in ((0.0, 0.035), (1.0, 0.035), (0.5, 0.93)):
        assert (struck == value).float().mean().item() == pytest.approx(share, abs=0.006)


@pytest.mark.parametrize(
    ("radius", "alias", "expected"),
    [
        # One pixel, smoothed: exp(-1 / (2 * 0.4**2)) = 0.0439 of the centre beside it.
        (0.3, 0.4, [[0.001631, 0.037128, 0.001631], [0.037128, 0.844966, 0.037128], [0.001631, 0.037128, 0.001631]]),
        (1, 0.1, [[0, 0.2, 0], [0.2, 0.2, 0.2], [0, 0.2, 0]]),
        (1.5, 0.1, [[1 / 9] * 3] * 3),
    ],
)
def test_defocus_spreads_a_point_over_a_disk(radius, alias, expected):
    blurred = distortions.defocus_blur(point(), noise(1), radius, alias)[0, 0]
    torch.testing.assert_close(blurred[3:6, 3:6], torch.tensor(expected).float(), atol=1e-5, rtol=0)
    assert blurred.sum().item() == pytest.approx(1)


@pytest.mark.parametrize(("rounds", "furthest"), [(1, 1), (2, 2)])
def test_glass_gives_pixels_the_values_of_their_neighbours_above_and_to_the_left(rounds, furthest):
    rows, columns = torch.arange(8.0)[:, None].expand(8, 8), torch.arange(8.0).expand(8, 8)
    image = torch.stack([rows, columns]).repeat(50, 1, 1, 1) / 8
    moved = (image - distortions.glass_blur(image, noise(50), 0.05, 1, rounds)) * 8
    assert set(moved.unique().tolist()) == set(range(furthest + 1))
    # The first two rows and columns stay.
    assert moved[:, :, :2].abs().max() == moved[:, :, :, :2].abs().max() == 0
    assert moved[:, :, 3:, 3:].mean().item() == pytest.approx(rounds / 2, abs=0.05)


def test_motion_blur_spreads_a_point_along_half_of_a_line_near_the_horizontal():
    spread = distortions.motion_blur(point(31, 40), noise(40), 6, 1)[:, 0]
    torch.testing.assert_close(spread.sum((1, 2)), torch.ones(40))
    # exp(0) of exp(0) + exp(-1/2) + exp(-4/2) and so on.
    torch.testing.assert_close(spread[:, 15, 15], torch.full((40,), 0.57035), atol=1e-4, rtol=0)
    rows, columns = torch.meshgrid(torch.arange(31) - 15, torch.arange(31) - 15, indexing="ij")
    reached = spread > 0
    assert not reached[:, (rows.abs() > columns.abs()) | (columns > 0)].any()
    assert (reached & (rows > 0)).flatten(1).any(1).sum() > 5
    assert (reached & (rows < 0)).flatten(1).any(1).sum() > 5


def test_zoom_blur_is_the_mean_of_the_enlargements_of_scipy():
    image = textured(1, 1, 32)
    array = image[0, 0].double().numpy()
    total = array.copy()
    for factor in (1, 1.01, 1.02, 1.03, 1.04, 1.05, 1.06):
        cut = math.ceil(32 / factor)
        first = (32 - cut) // 2
        large = ndimage.zoom(array[first : first + cut, first : first + cut], factor, order=1)
        trimmed = (len(large) - 32) // 2
        total += large[trimmed : trimmed + 32, trimmed : trimmed + 32]
    blurred = distortions.zoom_blur(image, noise(1), 1.06)[0, 0]
    torch.testing.assert_close(blurred, torch.from_numpy(total / 8).float())


@pytest.mark.parametrize(
    "blur",
    [
        lambda images: distortions.defocus_blur(images, noise(3), 1.5, 0.1),
        lambda images: distortions.glass_blur(images, noise(3), 0.4, 1, 2),
        lambda images: distortions.motion_blur(images, noise(3), 9, 2.5),
        lambda images: distortions.zoom_blur(images, noise(3), 1.25),
        lambda images: distortions.elastic_transform(images, noise(3), 0.1, 0.03, 0.03),
        lambda images: distortions.pixelate(images, noise(3), 0.65),
    ],
)
def test_what_moves_light_leaves_even_areas_alone_up_to_the_edge(blur):
    torch.testing.assert_close(blur(grey(3, 0.7, 3, 8)), grey(3, 0.7, 3, 8))


def test_snow_pales_the_image_and_falls_on_it_from_both_sides():
    fallen = distortions.snow(grey(20, 0.0), noise(20), 0.1, 0.2, 1, 0.6, 8, 3, 0.95)
    # A twentieth of the 0.5 that black pales to, where no flake is.
    assert fallen.min().item() == pytest.approx(0.025)
    torch.testing.assert_close(fallen, fallen.flip((2, 3)))
    # 0.6 is 2.5 deviations above the mean.
    assert 0.002 < fallen.mean().item() - 0.025 < 0.02
    heavy = distortions.snow(grey(20, 0.0), noise(20), 0.3, 0.3, 1.25, 0.65, 14, 12, 0.8)
    assert heavy.mean() > 4 * fallen.mean()


def test_snow_pales_colours_by_their_luma():
    image = torch.tensor([1.0, 0.0, 0.0])[None, :, None, None].expand(1, 3, 8, 8)
    # Without flakes: 1.5 * 0.299 + 0.5 = 0.9485 for the two dark channels, red stays.
    fallen = distortions.snow(image, noise(1), 0.0, 0.0, 1, 0.6, 8, 3, 0.8)
    expected = torch.tensor([1.0, 0.1897, 0.1897])[None, :, None, None].expand(1, 3, 8, 8)
    torch.testing.assert_close(fallen, expected)


def test_fog_lies_between_none_and_its_thickness_and_keeps_the_brightest_value():
    fogged = distortions.fog(grey(50, 0.5), noise(50), 0.5, 3)
    # 0.5 and up to 0.5 more, times 0.5 / (0.5 + 0.5).
    torch.testing.assert_close(fogged.amin((1, 2, 3)), torch.full((50,), 0.25))
    torch.testing.assert_close(fogged.amax((1, 2, 3)), torch.full((50,), 0.5))
    assert fogged.mean().item() == pytest.approx(0.375, abs=0.02)
    # All channels see the same cloud, and black stays black.
    coloured = distortions.fog(grey(4, 0.5, 3), noise(4), 0.5, 3)
    assert torch.equal(coloured[:, 0], coloured[:, 2])
    assert torch.equal(distortions.fog(grey(4, 0.0), noise(4), 0.5, 3), grey(4, 0.0))


def test_fog_is_rougher_at_a_smaller_decay():
    rough, smooth = (
        distortions.fog(grey(20), noise(20), 1, decay).diff(dim=3).abs().mean().item() for decay in (1.75, 3)
    )
    assert rough > 1.5 * smooth


def test_clouds_halve_their_cells_from_the_middle_of_the_image():
    """Of two pixels a side, by hand: the middle, then the two sides, from corners at zero."""
    drawn = 2 * noise(1).uniform(0, (1, 1)).double() - 1
    above = 2 * noise(1).uniform(1, (1, 1)).double() - 1
    beside = 2 * noise(1).uniform(2, (1, 1)).double() - 1
    middle = 10_000 * drawn.item()
    heights = torch.tensor(
        [[0.0, middle / 2 + 10_000 * above.item()], [middle / 2 + 10_000 * beside.item(), middle]]
    ).double()
    expected = (heights - heights.min()) / (heights.max() - heights.min())
    torch.testing.assert_close(distortions._cloud(noise(1), 2, 3.0)[0], expected)


@pytest.mark.parametrize(
    ("colour", "expected"),
    [
        ([0.2, 0.4, 0.1], [0.275, 0.55, 0.1375]),
        ([0.9, 0.45, 0.0], [1.0, 0.5, 0.0]),
        ([0.0, 0.0, 0.0], [0.15, 0.15, 0.15]),
        ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0]),
        ([0.5], [0.65]),
    ],
)
def test_brightness_is_added_to_the_value_in_hsv(colour, expected):
    image = torch.tensor(colour)[None, :, None, None]
    brighter = distortions.brightness(image, noise(1), 0.15)
    torch.testing.assert_close(brighter, torch.tensor(expected)[None, :, None, None])


def test_contrast_shrinks_the_distance_from_the_mean_of_each_channel():
    image = torch.tensor([[[[0.0, 1.0]], [[0.2, 0.4]]]])
    expected = torch.tensor([[[[0.3, 0.7]], [[0.26, 0.34]]]])
    torch.testing.assert_close(distortions.contrast(image, noise(1), 0.4), expected)


def test_elastic_transform_of_no_strength_changes_nothing():
    image = textured(3)
    torch.testing.assert_close(distortions.elastic_transform(image, noise(3), 0, 0, 0), image)


def test_the_affine_map_moves_three_points_by_up_to_the_shift():
    points = torch.tensor([[10.0, 10.0], [10.0, -10.0], [-10.0, -10.0]]).double()
    moved = points + 2.56 * (2 * noise(1).uniform(0, (3, 2))[0].double() - 1)
    for (column, row), (to_column, to_row) in zip(points + 16, moved + 16, strict=True):
        rows, columns = distortions._affine(noise(1), 32, 32, 2.56, to_row.reshape(1, 1), to_column.reshape(1))
        assert (rows.item(), columns.item()) == (pytest.approx(row.item()), pytest.approx(column.item()))


def test_elastic_transform_moves_an_image_by_pixels_and_each_image_otherwise():
    ramp = torch.linspace(0, 1, 32).expand(20, 1, 32, 32)
    moved = 31 * (distortions.elastic_transform(ramp, noise(20), 0.1, 0.04, 0.05) - ramp)[:, 0, 8:24, 8:24]
    assert 0.3 < moved.abs().mean() < 2.5
    assert moved.mean((1, 2)).std() > 0.2


def test_pixelate_averages_over_squares():
    image = torch.arange(16.0).reshape(1, 1, 4, 4) / 16
    expected = torch.tensor([[2.5, 2.5, 4.5, 4.5]] * 2 + [[10.5, 10.5, 12.5, 12.5]] * 2) / 16
    torch.testing.assert_close(distortions.pixelate(image, noise(1), 0.5)[0, 0], expected)
    torch.testing.assert_close(distortions.pixelate(image, noise(1), 0.1), torch.full((1, 1, 4, 4), 7.5 / 16))


@pytest.mark.parametrize(("share", "small"), [(0.95, 30), (0.9, 28), (0.85, 27), (0.75, 24), (0.65, 20)])
def test_pixelate_is_pillow_s_box_there_and_back(share, small):
    image = textured(1, 1, 32)
    shrunk = Image.fromarray(image[0, 0].numpy()).resize((small, small), Image.Resampling.BOX)
    expected = torch.from_numpy(np.asarray(shrunk.resize((32, 32), Image.Resampling.BOX)).copy())
    torch.testing.assert_close(distortions.pixelate(image, noise(1), share)[0, 0], expected)


def test_jpeg_keeps_even_colour_and_loses_more_at_lower_quality():
    even = torch.tensor([0.2, 0.6, 0.8])[None, :, None, None].expand(2, 3, 8, 8)
    assert (distortions.jpeg_compression(even, noise(2), 90) - even).abs().max() < 0.02
    image = textured(4)
    losses = [(distortions.jpeg_compression(image, noise(4), q) - image).square().mean() for q in (95, 60, 15)]
    assert losses[0] < losses[1] < losses[2]


def test_lengths_grow_with_large_images_only():
    assert distortions.scale(grey(1, side=32)) == 1
    assert distortions.scale(grey(1, side=8)) == 1
    assert distortions.scale(torch.zeros(1, 3, 224, 300)) == 7
