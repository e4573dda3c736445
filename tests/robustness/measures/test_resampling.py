from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from tscnc_deploy.robustness.measures import resampling

IMAGE = torch.rand(1, 1, 9, 8, generator=torch.Generator().manual_seed(0)).double()
ARRAY = IMAGE[0, 0].numpy()


@pytest.mark.parametrize(
    ("edge", "expected"),
    [
        ("nearest", [0, 0, 0, 0, 1, 2, 2, 2, 2]),
        ("mirror", [1, 2, 1, 0, 1, 2, 1, 0, 1]),
        ("reflect", [2, 1, 0, 0, 1, 2, 2, 1, 0]),
    ],
)
def test_edges_continue_as_in_scipy(edge, expected):
    assert resampling.inside(torch.arange(-3, 6), 3, edge).tolist() == expected


@pytest.mark.parametrize("edge", ["nearest", "mirror", "reflect"])
def test_a_side_of_one_pixel_continues_as_that_pixel(edge):
    assert resampling.inside(torch.arange(-2, 3), 1, edge).tolist() == [0, 0, 0, 0, 0]


@pytest.mark.parametrize("edge", ["nearest", "mirror", "reflect"])
def test_kernels_are_laid_over_as_in_scipy(edge):
    kernel = torch.arange(15).double().reshape(1, 3, 5)
    expected = ndimage.correlate(ARRAY, kernel[0].numpy(), mode=edge)
    torch.testing.assert_close(resampling.correlate(IMAGE, kernel, edge)[0, 0], torch.from_numpy(expected))


@pytest.mark.parametrize(
    ("sigma", "truncate", "edge"), [(1.3, 4, "nearest"), (0.25, 4, "nearest"), (1.92, 3, "reflect")]
)
def test_gaussian_blur_is_that_of_scipy(sigma, truncate, edge):
    expected = ndimage.gaussian_filter(ARRAY, sigma, mode=edge, truncate=truncate)
    blurred = resampling.gaussian_blur(IMAGE, sigma, edge, truncate)[0, 0]
    torch.testing.assert_close(blurred, torch.from_numpy(expected))


def test_a_gaussian_blur_narrower_than_a_pixel_changes_nothing():
    assert torch.equal(resampling.gaussian_blur(IMAGE, 0.05), IMAGE)


@pytest.mark.parametrize("edge", ["nearest", "mirror", "reflect"])
def test_places_between_pixels_are_sampled_as_in_scipy(edge):
    places = 14 * torch.rand(2, 9, 8, generator=torch.Generator().manual_seed(1)).double() - 3
    expected = ndimage.map_coordinates(ARRAY, places.numpy(), order=1, mode=edge)
    torch.testing.assert_close(resampling.sample(IMAGE, places[:1], places[1:], edge)[0, 0], torch.from_numpy(expected))


@pytest.mark.parametrize(("side", "factor"), [(32, 1.0), (32, 1.06), (32, 1.25), (32, 2.25), (8, 1.25), (1, 1.75)])
def test_zoom_is_the_middle_of_that_of_scipy(side, factor):
    line = np.random.default_rng(0).random(side)
    cut = int(np.ceil(side / factor))
    first = (side - cut) // 2
    large = ndimage.zoom(line[first : first + cut], factor, order=1) if cut > 1 else np.repeat(line, 2)
    trimmed = (len(large) - side) // 2
    zoomed = resampling.zoom(side, factor, torch.device("cpu")) @ torch.from_numpy(line)
    torch.testing.assert_close(zoomed, torch.from_numpy(large[trimmed : trimmed + side]))


@pytest.mark.parametrize(
    ("side", "count"), [(32, 30), (32, 28), (32, 27), (32, 24), (32, 20), (8, 5), (20, 32), (30, 32)]
)
def test_box_is_pillow_s(side, count):
    line = np.random.default_rng(0).random((1, side)).astype(np.float32)
    expected = np.asarray(Image.fromarray(line).resize((count, 1), Image.Resampling.BOX))[0]
    resized = resampling.box(side, count, torch.device("cpu")) @ torch.from_numpy(line[0]).double()
    torch.testing.assert_close(resized.float(), torch.from_numpy(expected.copy()))
