from __future__ import annotations

import hashlib
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import datasets

from tscnc_deploy.data import digest, load
from tscnc_deploy.errors import DataError
from tscnc_deploy.recipe import Data

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
LABELS = np.arange(60, dtype=np.uint8) % 10


def write_binary(folder: Path, images: np.ndarray) -> Path:
    """Six batches of ten images, one of each class."""
    folder.mkdir(parents=True)
    records = np.concatenate([LABELS[:, None], images.reshape(60, -1)], axis=1)
    for number in range(5):
        records[10 * number : 10 * number + 10].tofile(folder / f"data_batch_{number + 1}.bin")
    records[50:].tofile(folder / "test_batch.bin")
    (folder / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n")
    return folder


def write_pickled(folder: Path, images: np.ndarray) -> Path:
    folder.mkdir(parents=True)
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    for number, name in enumerate(names):
        rows = slice(10 * number, 10 * number + 10)
        content = {"data": images[rows].reshape(10, -1), "labels": LABELS[rows].tolist()}
        (folder / name).write_bytes(pickle.dumps(content))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": NAMES}))
    return folder


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def accept(monkeypatch):
    """Has torchvision accept the sums of made files as if they were the official ones."""

    def accept(folder: Path) -> None:
        def sums(names):
            return [[name, md5(folder / name)] for name in names]

        monkeypatch.setattr(datasets.CIFAR10, "train_list", sums(f"data_batch_{number}" for number in range(1, 6)))
        monkeypatch.setattr(datasets.CIFAR10, "test_list", sums(["test_batch"]))
        meta = datasets.CIFAR10.meta | {"md5": md5(folder / "batches.meta")}
        monkeypatch.setattr(datasets.CIFAR10, "meta", meta)

    return accept


def settings(root: Path, **changes) -> Data:
    return Data(**({"dataset": "cifar10", "root": str(root), "download": False, "validation": 0.2} | changes))


def check(data, images) -> None:
    assert data.classes == tuple(NAMES)
    assert (len(data.train), len(data.validation), len(data.test)) == (40, 10, 10)
    assert data.test.labels.tolist() == list(range(10))
    assert np.array_equal(data.test.images.numpy(), images[50:])


def test_the_binary_version_below_the_root_and_as_the_root(tmp_path, rgb32):
    folder = write_binary(tmp_path / "cifar-10-batches-bin", rgb32)
    check(load(settings(tmp_path)), rgb32)
    check(load(settings(folder)), rgb32)
    assert digest(settings(tmp_path)) == digest(settings(folder))


def test_torchvisions_pickles(tmp_path, rgb32, accept):
    folder = write_pickled(tmp_path / "cifar-10-batches-py", rgb32)
    accept(folder)
    check(load(settings(tmp_path)), rgb32)
    check(load(settings(folder)), rgb32)
    assert digest(settings(tmp_path)) == digest(settings(folder))


def test_the_binary_version_of_cifar100_takes_the_fine_labels(tmp_path, rgb32):
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    fine = np.arange(100, dtype=np.uint8)
    records = np.concatenate([fine[:, None] // 5, fine[:, None], rgb32.reshape(60, -1)[fine % 60]], axis=1)
    records.tofile(folder / "train.bin")
    records[:50].tofile(folder / "test.bin")
    (folder / "fine_label_names.txt").write_text("".join(f"class_{label}\n" for label in range(100)))
    data = load(settings(tmp_path, dataset="cifar100", validation=0.0))
    assert (len(data.classes), data.classes[7]) == (100, "class_7")
    assert data.test.labels.tolist() == list(range(50))
    assert np.array_equal(data.test.images[7].numpy(), rgb32[7])


def test_pickles_with_other_sums_are_never_opened(tmp_path, rgb32):
    folder = write_pickled(tmp_path / "cifar-10-batches-py", rgb32)
    trace = tmp_path / "was-run"

    class Payload:
        def __reduce__(self):
            return Path.touch, (trace,)

    for path in folder.iterdir():
        path.write_bytes(pickle.dumps(Payload()))
    with pytest.raises(DataError, match="cifar-10-batches-py: these are not the official files"):
        load(settings(tmp_path))
    assert not trace.exists()


def test_a_truncated_pickle_is_refused(tmp_path, rgb32, accept):
    folder = write_pickled(tmp_path / "cifar-10-batches-py", rgb32)
    accept(folder)
    path = folder / "data_batch_3"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="MD5 sums differ"):
        load(settings(tmp_path))


def test_damaged_binaries(tmp_path, rgb32):
    folder = write_binary(tmp_path / "cifar-10-batches-bin", rgb32)
    path = folder / "data_batch_2.bin"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(DataError, match=r"data_batch_2.bin: 30729 bytes is not a multiple of the record size 3073"):
        load(settings(tmp_path))
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"data_batch_2.bin: 0 bytes"):
        load(settings(tmp_path))
    path.write_bytes(content[:3073] + b"\x0a" + content[3074:])
    with pytest.raises(DataError, match=r"data_batch_2.bin: the label of record 1 is 10; labels must be from 0 to 9"):
        load(settings(tmp_path))
    path.unlink()
    for function in (load, digest):
        with pytest.raises(DataError, match=r"cifar-10-batches-bin: data_batch_2.bin not found; get the data from"):
            function(settings(tmp_path))


@pytest.mark.parametrize("function", [load, digest])
def test_a_file_that_cannot_be_read(tmp_path, rgb32, function):
    folder = write_binary(tmp_path / "cifar-10-batches-bin", rgb32)
    path = folder / "batches.meta.txt"
    # Root reads whatever its mode, but nobody reads a process's memory at address 0.
    path.unlink()
    path.symlink_to("/proc/self/mem")
    with pytest.raises(DataError, match="cannot be read: Input/output error"):
        function(settings(tmp_path))


@pytest.mark.parametrize("function", [load, digest])
@pytest.mark.parametrize("root", ["", "missing"])
def test_nothing_there_and_no_download(tmp_path, function, root):
    with pytest.raises(
        DataError, match=r"contains neither cifar-10-batches-bin nor cifar-10-batches-py; set data.downl"
    ):
        function(settings(tmp_path / root))


@pytest.mark.parametrize("function", [load, digest])
def test_a_download_that_fails_names_the_folder_and_the_origin(tmp_path, monkeypatch, served, function):
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{served[1]}/nowhere.tar.gz")
    root = tmp_path / "data"
    with pytest.raises(
        DataError, match=r"the download failed \(.*\); put cifar-10-batches-py there, from https://www.cs"
    ):
        function(settings(root, download=True))
    assert list(root.iterdir()) == []


def test_the_digest_downloads_what_is_missing(tmp_path, monkeypatch, served, rgb32, accept, capsys):
    server, url = served
    folder = write_pickled(server / "cifar-10-batches-py", rgb32)
    accept(folder)
    archive = server / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{url}/{archive.name}")
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5(archive))
    root = tmp_path / "data"
    assert digest(settings(root, download=True)) == digest(settings(folder))
    assert [path.name for path in root.iterdir()] == ["cifar-10-batches-py"]
    assert capsys.readouterr().out == ""
    check(load(settings(root)), rgb32)


@pytest.mark.cifar10
@pytest.mark.skipif("TSCNC_CIFAR10" not in os.environ, reason="set TSCNC_CIFAR10 to a folder that holds CIFAR-10")
def test_the_real_cifar10():
    data = load(Data(dataset="cifar10", root=os.environ["TSCNC_CIFAR10"], download=False))
    assert data.classes == tuple(NAMES)
    assert (len(data.train), len(data.validation), len(data.test)) == (45000, 5000, 10000)
    assert data.train.labels.bincount().tolist() == [4500] * 10
    assert data.test.labels.bincount().tolist() == [1000] * 10
    assert data.test.labels[:5].tolist() == [3, 8, 8, 0, 6]
    assert data.test.images.dtype == torch.uint8
    mean, std = data.channel_statistics()
    assert mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=2e-3)
    assert std == pytest.approx((0.2470, 0.2435, 0.2616), abs=2e-3)
