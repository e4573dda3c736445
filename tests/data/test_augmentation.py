from __future__ import annotations

import pytest
import torch

from tscnc_deploy.data import augment


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shifted(image: torch.Tensor, down: int, right: int) -> torch.Tensor:
    result = torch.zeros_like(image)
    height, width = image.shape[1:]
    for y in range(height):
        for x in range(width):
            if 0 <= y - down < height and 0 <= x - right < width:
                result[:, y, x] = image[:, y - down, x - right]
    return result


def test_none_gives_the_images_themselves():
    images = torch.rand(2, 1, 8, 8)
    assert augment(images, "none", generator()) is images


def test_crop_gives_all_nine_shifts_of_an_8x8_image_and_nothing_else():
    image = torch.arange(1.0, 129).reshape(2, 8, 8)
    results = {tuple(out.flatten().tolist()) for out in augment(image.expand(500, 2, 8, 8), "crop", generator())}
    shifts = {tuple(shifted(image, d, r).flatten().tolist()) for d in (-1, 0, 1) for r in (-1, 0, 1)}
    assert results == shifts


def test_crop_flip_adds_the_mirrored_images():
    image = torch.arange(1.0, 129).reshape(2, 8, 8)
    results = {tuple(out.flatten().tolist()) for out in augment(image.expand(500, 2, 8, 8), "crop-flip", generator())}
    shifts = {
        tuple(shifted(form, d, r).flatten().tolist())
        for form in (image, image.flip(2))
        for d in (-1, 0, 1)
        for r in (-1, 0, 1)
    }
    assert results == shifts


def test_images_below_eight_pixels_stay_where_they_are():
    images = torch.rand(20, 3, 7, 5)
    assert augment(images, "crop", generator()).equal(images)


def test_the_shift_follows_each_side():
    images = torch.ones(200, 1, 8, 16)
    zeros = augment(images, "crop", generator()) == 0
    assert zeros[:, 0].all(2).sum(1).max() == 1
    assert zeros[:, 0].all(1).sum(1).max() == 2


def test_the_seed_decides():
    images = torch.rand(50, 3, 32, 32)
    first = augment(images, "crop-flip", generator(1))
    assert first.equal(augment(images, "crop-flip", generator(1)))
    assert not first.equal(augment(images, "crop-flip", generator(2)))
    assert first.shape == images.shape


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="unknown augmentation 'mixup'; use none, crop or crop-flip"):
        augment(torch.rand(1, 1, 8, 8), "mixup", generator())
