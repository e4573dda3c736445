from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tscnc_deploy.data import load
from tscnc_deploy.errors import DataError
from tscnc_deploy.recipe import Data


def write(path: Path, **changes) -> Data:
    arrays = {
        "train_images": np.arange(4 * 2 * 3 * 3, dtype=np.uint8).reshape(4, 2, 3, 3),
        "train_labels": np.array([0, 1, 0, 1]),
        "test_images": np.zeros((2, 2, 3, 3), np.uint8),
        "test_labels": np.array([0, 1]),
    } | changes
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    return Data(dataset="npz", root=str(path), validation=0.0)


def test_channels_come_last_in_the_file_and_first_in_memory(tmp_path):
    data = load(write(tmp_path / "a.npz", class_names=np.array(["cat", "dog"])))
    assert data.classes == ("cat", "dog")
    assert data.input_shape == (3, 2, 3)
    assert data.train.images[0, 0].tolist() == [[0, 3, 6], [9, 12, 15]]


def test_grey_images_get_a_channel_and_floats_single_precision(tmp_path):
    images = np.linspace(0, 1, 4 * 25).reshape(4, 5, 5)
    data = load(write(tmp_path / "a.npz", train_images=images, test_images=images[:2]))
    assert data.input_shape == (1, 5, 5)
    assert data.train.images.dtype == torch.float32
    assert data.classes == ("0", "1")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_labels": None}, "test_labels not found; it contains train_images, train_labels, test_images"),
        ({"train_images": np.zeros((4, 2, 3, 4), np.uint8)}, r"has the shape \[4, 2, 3, 4\]; use \[N, H, W\]"),
        ({"train_images": np.zeros((4, 3, 32, 32), np.uint8)}, r"has the shape \[4, 3, 32, 32\]; use \[N, H, W\]"),
        ({"train_images": np.zeros((4, 2, 3, 3), np.int32)}, "train_images is int32; use uint8, or float32"),
        ({"train_images": np.full((4, 2, 3, 3), 255.0)}, r"image 0 has the value 255.0; float images must be in"),
        ({"test_images": np.full((2, 2, 3, 3), np.nan)}, "test image 0 has the value nan"),
        ({"train_labels": np.array([0, 1, 0])}, r"train_labels is int64 \[3\]; use integers of the shape \[4\]"),
        ({"train_labels": np.array([0.0, 1, 0, 1])}, "train_labels is float64"),
        ({"train_labels": np.array([0, 1, 0, 10**12])}, "has the label 1000000000000 but only 4 images"),
        ({"test_labels": np.array([0, 2])}, "the label of test image 1 is 2; labels must be from 0 to 1"),
        ({"test_labels": np.array([0, -1])}, "the label of test image 1 is -1"),
        ({"train_labels": np.array([0, 0, 2, 2])}, "no training image remains for class '1'"),
        ({"train_labels": np.zeros(4, int)}, "a classifier needs at least two classes, not 1: 0"),
        ({"class_names": np.array([1, 2])}, "class_names is int64"),
        ({"class_names": np.array(["a", None], object)}, "not a readable .npz file of plain arrays: Object arrays"),
        ({"test_images": np.zeros((2, 3, 3, 3), np.uint8)}, r"training images are \[3, 2, 3\] and test images \[3, 3"),
        ({"test_images": np.zeros((0, 2, 3, 3), np.uint8), "test_labels": np.zeros(0, int)}, "contains no test images"),
    ],
)
def test_wrong_arrays(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        load(write(tmp_path / "a.npz", **changes))


def test_files_that_are_none(tmp_path):
    path = tmp_path / "a.npz"
    settings = Data(dataset="npz", root=str(path))
    with pytest.raises(DataError, match=r"file not found; data.dataset = 'npz' needs the path"):
        load(settings)
    path.write_bytes(b"PK\x03\x04 is how it begins")
    with pytest.raises(DataError, match=r"not a readable .npz file"):
        load(settings)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(DataError, match="it is a single array"):
        load(settings)
    write(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"not a readable .npz file"):
        load(settings)
