from __future__ import annotations

import hashlib

import numpy as np
import pytest
import scipy.io
from torchvision.datasets import SVHN

from tscnc_deploy.data import digest, load
from tscnc_deploy.errors import DataError
from tscnc_deploy.recipe import Data


@pytest.fixture
def folder(served, monkeypatch, rgb32):
    """Both files in the official form: X [32, 32, 3, N], and y [N, 1] with 10 for the digit 0."""
    folder, url = served
    known = dict(SVHN.split_list)
    for split, rows in (("train", slice(0, 40)), ("test", slice(40, 60))):
        labels = np.arange(60)[rows] % 10
        path = folder / f"{split}_32x32.mat"
        y = np.where(labels == 0, 10, labels)[:, None].astype(np.uint8)
        scipy.io.savemat(path, {"X": rgb32[rows].transpose(2, 3, 1, 0), "y": y})
        known[split] = [f"{url}/{path.name}", path.name, hashlib.md5(path.read_bytes()).hexdigest()]
    # Has torchvision accept the sums of these files as if they were the official ones.
    monkeypatch.setattr(SVHN, "split_list", known)
    return folder


def settings(root, **changes) -> Data:
    return Data(**({"dataset": "svhn", "root": str(root), "download": False, "validation": 0.25} | changes))


def test_reads_the_official_files(folder, rgb32):
    data = load(settings(folder))
    assert data.classes == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
    assert (len(data.train), len(data.validation), len(data.test)) == (30, 10, 20)
    assert data.test.labels.tolist() == [*range(10), *range(10)]
    assert np.array_equal(data.test.images.numpy(), rgb32[40:])


def test_downloads_what_is_missing(folder, tmp_path):
    root = tmp_path / "data"
    assert digest(settings(root, download=True)) == digest(settings(folder))
    assert sorted(path.name for path in root.iterdir()) == ["test_32x32.mat", "train_32x32.mat"]


def test_a_file_that_is_missing_or_damaged(folder):
    path = folder / "test_32x32.mat"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match="are not the official files"):
        load(settings(folder))
    path.unlink()
    for function in (load, digest):
        with pytest.raises(DataError, match=r"test_32x32.mat not found; set data.download = true, or get the data"):
            function(settings(folder))
