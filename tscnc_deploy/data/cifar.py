"""CIFAR-10 and CIFAR-100 in both official layouts: the binary version and the pickles that torchvision reads.

Layouts: https://www.cs.toronto.edu/~kriz/cifar.html. A binary record is one label byte (CIFAR-10) or the coarse and
the fine label (CIFAR-100), then 3,072 bytes: the red, green and blue planes of 32x32 in row-major order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tscnc_deploy.data.download import download
from tscnc_deploy.data.raw import Part, Raw
from tscnc_deploy.errors import DataError, MissingDataError
from tscnc_deploy.recipe import Data

ORIGIN = "https://www.cs.toronto.edu/~kriz/cifar.html"
_PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Layout:
    """The official names of a folder and of the files in it."""

    folder: str
    train: tuple[str, ...]
    test: str
    names: str

    @property
    def files(self) -> tuple[str, ...]:
        return (*self.train, self.test, self.names)


@dataclass(frozen=True)
class Cifar:
    """One of the two data sets; `torchvision` is the name of torchvision's class for it."""

    torchvision: str
    classes: int
    label_bytes: int
    binary: Layout
    pickled: Layout

    def files(self, settings: Data) -> Mapping[str, Path]:
        layout, folder = self._locate(settings)
        missing = [name for name in layout.files if not (folder / name).is_file()]
        if missing:
            msg = f"{folder}: {', '.join(missing)} not found; get the data from {ORIGIN}"
            raise DataError(msg)
        return {name: folder / name for name in layout.files}

    def read(self, settings: Data) -> Raw:
        files = self.files(settings)
        layout, folder = self._locate(settings)
        if layout is self.pickled:
            return self._read_pickled(folder)
        train = [self._read_records(files[name]) for name in layout.train]
        return Raw(
            self._class_names(files[layout.names]),
            Part(np.concatenate([part.images for part in train]), np.concatenate([part.labels for part in train])),
            self._read_records(files[layout.test]),
        )

    def _locate(self, settings: Data) -> tuple[Layout, Path]:
        root = Path(settings.root)
        if (found := self._find(root)) is None and settings.download:
            download(self._fetch, root, [self.pickled.folder], ORIGIN)
            found = self._find(root)
        if found is None:
            msg = (
                f"data.root = {settings.root!r}: contains neither {self.binary.folder} nor {self.pickled.folder}; "
                f"set data.download = true, or get the data from {ORIGIN}"
            )
            raise MissingDataError(msg)
        return found

    def _find(self, root: Path) -> tuple[Layout, Path] | None:
        for folder in (root / self.binary.folder, root):
            if any((folder / name).is_file() for name in (*self.binary.train, self.binary.test)):
                return self.binary, folder
        for folder in (root / self.pickled.folder, root):
            # The pickles have names like "train", so only the official name of their folder identifies them.
            if folder.name == self.pickled.folder and folder.is_dir():
                return self.pickled, folder
        return None

    def _fetch(self, folder: Path) -> None:
        import torchvision.datasets

        getattr(torchvision.datasets, self.torchvision)(folder, download=True)

    def _read_pickled(self, folder: Path) -> Raw:
        import torchvision.datasets

        dataset = getattr(torchvision.datasets, self.torchvision)
        try:
            # torchvision unpickles only files with the official MD5 sums.
            train, test = (dataset(folder.parent, train=flag) for flag in (True, False))
        except RuntimeError as error:
            msg = f"{folder}: these are not the official files (MD5 sums differ); get the data from {ORIGIN}"
            raise DataError(msg) from error
        return Raw(tuple(train.classes), _unpickled(train), _unpickled(test))

    def _read_records(self, path: Path) -> Part:
        content = np.fromfile(path, np.uint8)
        record = self.label_bytes + _PIXELS
        if len(content) == 0 or len(content) % record:
            msg = f"{path}: {len(content)} bytes is not a multiple of the record size {record}; the file is damaged"
            raise DataError(msg)
        records = content.reshape(-1, record)
        labels = records[:, self.label_bytes - 1].astype(np.int64)
        outside = np.flatnonzero(labels >= self.classes)
        if len(outside):
            msg = (
                f"{path}: the label of record {outside[0]} is {labels[outside[0]]}; "
                f"labels must be from 0 to {self.classes - 1}; the file is damaged"
            )
            raise DataError(msg)
        return Part(records[:, self.label_bytes :].reshape(-1, 3, 32, 32), labels)

    def _class_names(self, path: Path) -> tuple[str, ...]:
        names = tuple(path.read_text(encoding="utf-8", errors="replace").split())
        if len(names) != self.classes:
            msg = f"{path}: lists {len(names)} classes instead of {self.classes}"
            raise DataError(msg)
        return names


def _unpickled(split: Any) -> Part:
    return Part(np.ascontiguousarray(split.data.transpose(0, 3, 1, 2)), np.asarray(split.targets, np.int64))


CIFAR10 = Cifar(
    torchvision="CIFAR10",
    classes=10,
    label_bytes=1,
    binary=Layout(
        "cifar-10-batches-bin",
        train=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
        test="test_batch.bin",
        names="batches.meta.txt",
    ),
    pickled=Layout(
        "cifar-10-batches-py",
        train=tuple(f"data_batch_{number}" for number in range(1, 6)),
        test="test_batch",
        names="batches.meta",
    ),
)
CIFAR100 = Cifar(
    torchvision="CIFAR100",
    classes=100,
    label_bytes=2,
    binary=Layout("cifar-100-binary", train=("train.bin",), test="test.bin", names="fine_label_names.txt"),
    pickled=Layout("cifar-100-python", train=("train",), test="test", names="meta"),
)
