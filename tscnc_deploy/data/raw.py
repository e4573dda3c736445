"""The output of data set readers: NumPy arrays, before splitting, limiting and resizing.

NumPy rather than torch, so that finding and hashing the files of a data set needs no slow import.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tscnc_deploy.recipe import Data


@dataclass(frozen=True, eq=False)
class Part:
    """Images and their labels.

    Attributes:
        images: [N, C, H, W], uint8 (0 to 255) or float32 in [0, 1].
        labels: int64 [N], indices into the names of the classes.
    """

    images: NDArray[Any]
    labels: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Raw:
    """A data set as read from its files; `skipped` lists corrupt files that were skipped as configured."""

    classes: tuple[str, ...]
    train: Part
    test: Part
    skipped: tuple[str, ...] = ()


class Source(Protocol):
    """One data set: how to find and read its files."""

    def files(self, settings: Data) -> Mapping[str, Path]:
        """The files of the data set, by a name that does not depend on their location; downloads them if allowed.

        Raises:
            DataError: A file or folder is missing.
        """
        ...

    def read(self, settings: Data) -> Raw:
        """The images and labels.

        Raises:
            DataError: The data are missing or damaged, or do not have the format of this data set.
        """
        ...
