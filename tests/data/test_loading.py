from __future__ import annotations

import numpy as np
import pytest
import torch

from tscnc_deploy.data import Split, load
from tscnc_deploy.errors import DataError
from tscnc_deploy.recipe import Data


def identities(split: Split) -> set[bytes]:
    return {image.numpy().tobytes() for image in split.images}


def test_digits_are_split_into_1293_144_and_360():
    data = load(Data())
    assert (len(data.train), len(data.validation), len(data.test)) == (1293, 144, 360)
    assert data.input_shape == (1, 8, 8)
    assert data.classes == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
    assert data.test.labels.bincount().tolist() == [36, 37, 35, 37, 36, 36, 36, 36, 35, 36]
    assert data.train.images.dtype == torch.float32
    assert set((data.train.images * 16).unique().tolist()) == set(range(17))


def test_digits_are_disjoint_and_complete():
    data = load(Data())
    parts = [identities(split) for split in (data.train, data.validation, data.test)]
    assert [len(part) for part in parts] == [1293, 144, 360]
    assert len(set.union(*parts)) == 1797


def test_the_test_images_stay_whatever_is_trained_on():
    test = load(Data()).test
    other = load(Data(validation=0.3, train_limit=100)).test
    assert test.images.equal(other.images)


def test_limits_are_met_to_the_image_and_cover_validation():
    data = load(Data(train_limit=200, test_limit=50, validation=0.2))
    assert (len(data.train), len(data.validation), len(data.test)) == (160, 40, 50)
    assert data.test.labels.bincount().tolist() == [5] * 10
    assert data.train.labels.bincount().tolist() == [16] * 10


def test_without_validation_the_split_is_empty():
    data = load(Data(validation=0.0))
    assert (len(data.train), len(data.validation)) == (1437, 0)


def test_resized_images_stay_in_range():
    data = load(Data(image_size=12, train_limit=20, test_limit=10, validation=0.0))
    assert data.train.images.shape == (20, 1, 12, 12)
    assert data.train.images.min() >= 0
    assert data.train.images.max() <= 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train_limit": 1438}, "data.train_limit = 1438 must be between 10, the number of classes, and 1437"),
        ({"train_limit": 9}, "data.train_limit = 9 must be between 10, the number of classes, and 1437"),
        ({"test_limit": 361}, "data.test_limit = 361 must be between 10, the number of classes, and 360"),
        ({"train_limit": 10, "validation": 0.5}, "no training image remains for class '0', '1', '2', '3', '4'"),
        (
            {"train_limit": 10, "validation": 0.01},
            "data.validation = 0.01 of 10 training images is less than one image",
        ),
    ],
)
def test_impossible_limits(settings, message):
    with pytest.raises(DataError, match=message):
        load(Data(**settings))


def test_averaging_four_pixels_halves_the_side(tmp_path):
    images = np.zeros((4, 2, 2), np.uint8)
    images[:, 0] = 100
    path = tmp_path / "grey.npz"
    np.savez(path, train_images=images, train_labels=[0, 1, 0, 1], test_images=images, test_labels=[0, 1, 0, 1])
    data = load(Data(dataset="npz", root=str(path), image_size=1, validation=0.0))
    assert data.train.images.dtype == torch.uint8
    assert data.train.images.flatten().tolist() == [50, 50, 50, 50]
