from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import kstest, poisson

from tscnc_deploy.robustness.measures import distortions
from tscnc_deploy.robustness.noise import Noise


def noise(count, seed=0):
    return Noise(seed, torch.arange(count), "test")


def grey(count, value=0.5, channels=1, side=32):
    return torch.full((count, channels, side, side), value)


def textured(count, channels=3, side=8):
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(0))


def test_gaussian_noise_is_normal_with_the_level_as_deviation():
    added = distortions.gaussian_noise(grey(20), 0.16, noise(20)) - 0.5
    assert kstest(added.flatten().double().numpy() / 0.16, "norm").pvalue > 0.01


def test_uniform_noise_is_uniform_up_to_the_level():
    added = distortions.uniform_noise(grey(20), 0.28, noise(20)) - 0.5
    assert kstest(added.flatten().double().numpy() / 0.56 + 0.5, "uniform").pvalue > 0.01


@pytest.mark.parametrize(("value", "level"), [(1.0, 20), (0.5, 300), (0.05, 40)])
def test_shot_noise_counts_photons_that_are_poisson_distributed(value, level):
    shot = distortions.shot_noise(grey(20, value), level, noise(20))
    counts = (shot * level).flatten()
    assert torch.equal(counts.round() / level, shot.flatten())
    grid = np.arange(400)
    measured = np.bincount(counts.round().long().numpy(), minlength=400).cumsum() / counts.numel()
    # Kolmogorov's bound at 1% for so many numbers.
    assert np.abs(measured - poisson.cdf(grid, value * level)).max() < 1.63 / math.sqrt(counts.numel())


def test_black_has_no_shot_noise():
    assert torch.equal(distortions.shot_noise(grey(2, 0.0), 20, noise(2)), grey(2, 0.0))


def test_impulse_noise_sets_a_share_of_the_values_to_black_and_white():
    struck = distortions.impulse_noise(grey(20), 0.1, noise(20))
    for value, share in ((0.0, 0.05), (1.0, 0.05), (0.5, 0.9)):
        assert (struck == value).float().mean().item() == pytest.approx(share, abs=0.006)


def test_gaussian_blur_is_that_of_scipy():
    image = textured(1, channels=1)
    expected = gaussian_filter(image[0, 0].double().numpy(), 1.3, mode="nearest", radius=6)
    np.testing.assert_allclose(distortions.gaussian_blur(image, 1.3, noise(1))[0, 0], expected, atol=1e-6)


def test_defocus_spreads_a_point_over_a_disk():
    image = torch.zeros(1, 1, 5, 5)
    image[0, 0, 2, 2] = 2.6
    expected = torch.zeros(5, 5)
    # Of radius 0.9: all of the centre, 0.4 of its four neighbours, nothing of those across a corner.
    expected[2, 2], expected[1, 2], expected[3, 2], expected[2, 1], expected[2, 3] = 1.0, 0.4, 0.4, 0.4, 0.4
    torch.testing.assert_close(distortions.defocus_blur(image, 0.9, noise(1))[0, 0], expected)


def test_motion_blur_spreads_a_point_along_a_line_of_each_image_s_own_direction():
    image = torch.zeros(40, 1, 15, 15)
    image[:, 0, 7, 7] = 1.0
    spread = distortions.motion_blur(image, 6, noise(40))[:, 0]
    torch.testing.assert_close(spread.sum((1, 2)), torch.ones(40))
    offsets = torch.arange(15.0) - 7
    across, down = (spread.sum(1) * offsets**2).sum(1), (spread.sum(2) * offsets**2).sum(1)
    diagonal = (spread * offsets[None] * offsets[:, None]).sum((1, 2))
    # The moments along and across the line are the eigenvalues of [[across, diagonal], [diagonal, down]].
    half, gap = (across + down) / 2, torch.hypot((across - down) / 2, diagonal)
    assert (half + gap > 2.5).all()
    assert (half - gap < 0.35).all()
    angles = torch.atan2(diagonal, (across - down) / 2) / 2
    assert angles.std() > 0.5


@pytest.mark.parametrize("blur", [distortions.gaussian_blur, distortions.defocus_blur, distortions.motion_blur])
def test_blurs_leave_even_areas_alone_up_to_the_edge(blur):
    torch.testing.assert_close(blur(grey(3, 0.7, 3, 6), 2.0, noise(3)), grey(3, 0.7, 3, 6))


def test_contrast_shrinks_the_distance_from_the_mean_of_each_channel():
    image = torch.tensor([[[[0.0, 1.0]], [[0.2, 0.4]]]])
    expected = torch.tensor([[[[0.375, 0.625]], [[0.275, 0.325]]]])
    torch.testing.assert_close(distortions.contrast(image, 0.25, noise(1)), expected)


def test_brightness_is_added():
    assert distortions.brightness(torch.tensor([[[[0.25, 0.5]]]]), 0.25, noise(1)).tolist() == [[[[0.5, 0.75]]]]


def test_fog_swallows_the_level_of_light_on_average_but_unevenly():
    thickness = distortions.fog(grey(400, 0.0, side=16), 0.4, noise(400))
    assert thickness.mean().item() == pytest.approx(0.4, abs=0.01)
    assert thickness.flatten(1).std(1).mean() > 0.02
    # All channels see the same veil, and white stays white.
    coloured = distortions.fog(grey(4, 0.0, 3), 0.4, noise(4))
    assert torch.equal(coloured[:, 0], coloured[:, 2])
    assert torch.equal(distortions.fog(grey(4, 1.0), 0.4, noise(4)), grey(4, 1.0))


def test_pixelate_averages_over_rectangles():
    image = torch.arange(16.0).reshape(1, 1, 4, 4) / 16
    expected = torch.tensor([[2.5, 2.5, 4.5, 4.5]] * 2 + [[10.5, 10.5, 12.5, 12.5]] * 2) / 16
    torch.testing.assert_close(distortions.pixelate(image, 0.5, noise(1))[0, 0], expected)
    torch.testing.assert_close(distortions.pixelate(image, 0.1, noise(1)), torch.full((1, 1, 4, 4), 7.5 / 16))


def test_jpeg_keeps_even_colour_and_loses_more_at_lower_quality():
    even = torch.tensor([0.2, 0.6, 0.8])[None, :, None, None].expand(2, 3, 8, 8)
    assert (distortions.jpeg(even, 90, noise(2)) - even).abs().max() < 0.02
    image = textured(4)
    losses = [(distortions.jpeg(image, quality, noise(4)) - image).square().mean() for quality in (95, 60, 15)]
    assert losses[0] < losses[1] < losses[2]


def test_lengths_grow_with_large_images_only():
    assert distortions.pixels(1.5, grey(1, side=32)) == 1.5
    assert distortions.pixels(1.5, grey(1, side=8)) == 1.5
    assert distortions.pixels(1.5, torch.zeros(1, 3, 224, 300)) == 10.5
