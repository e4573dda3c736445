"""What the readers of data sets hand over: NumPy arrays, before splitting, limiting and resizing.

NumPy and not torch, so that finding and hashing the files of a data set costs no heavy import.
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
    """A data set as it was read; `skipped` names the corrupt files that the settings said to skip."""

    classes: tuple[str, ...]
    train: Part
    test: Part
    skipped: tuple[str, ...] = ()


class Source(Protocol):
    """One data set: where its files are, and how to read them."""

    def files(self, settings: Data) -> Mapping[str, Path]:
        """The files that hold the data, by a name that does not depend on where they lie; downloads if allowed.

        Raises:
            DataError: A file or folder is missing.
        """
        ...

    def read(self, settings: Data) -> Raw:
        """The images and labels.

        Raises:
            DataError: The data are missing, damaged, or not of the form that this data set has.
        """
        ...
