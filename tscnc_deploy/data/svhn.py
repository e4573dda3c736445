"""Street View House Numbers, cropped digits (format 2): MATLAB files read by torchvision and SciPy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tscnc_deploy.data.download import download
from tscnc_deploy.data.raw import Part, Raw
from tscnc_deploy.errors import DataError, MissingDataError
from tscnc_deploy.recipe import Data

ORIGIN = "http://ufldl.stanford.edu/housenumbers/"
_FILES = ("train_32x32.mat", "test_32x32.mat")


class Svhn:
    """73,257 training and 26,032 test images, 32x32 RGB; class k is the digit k."""

    def files(self, settings: Data) -> Mapping[str, Path]:
        root = Path(settings.root)
        if self._missing(root) and settings.download:
            download(self._fetch, root, _FILES, ORIGIN)
        if missing := self._missing(root):
            msg = (
                f"data.root = {settings.root!r}: {' and '.join(missing)} not found; "
                f"set data.download = true, or get the data from {ORIGIN}"
            )
            raise MissingDataError(msg)
        return {name: root / name for name in _FILES}

    def read(self, settings: Data) -> Raw:
        from torchvision.datasets import SVHN

        self.files(settings)
        try:
            train, test = (SVHN(settings.root, split=split) for split in ("train", "test"))
        except RuntimeError as error:
            msg = (
                f"data.root = {settings.root!r}: {' and '.join(_FILES)} are not the official files "
                f"(MD5 sums differ); get the data from {ORIGIN}"
            )
            raise DataError(msg) from error
        return Raw(tuple(str(digit) for digit in range(10)), _part(train), _part(test))

    def _missing(self, root: Path) -> list[str]:
        return [name for name in _FILES if not (root / name).is_file()]

    def _fetch(self, folder: Path) -> None:
        from torchvision.datasets import SVHN

        for split in ("train", "test"):
            SVHN(folder, split=split, download=True)


def _part(split: Any) -> Part:
    return Part(np.ascontiguousarray(split.data), np.asarray(split.labels, np.int64))
