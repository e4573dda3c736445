"""The user's own arrays: one .npz file with NumPy arrays."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tscnc_deploy.data.raw import Part, Raw
from tscnc_deploy.errors import DataError
from tscnc_deploy.recipe import Data

_REQUIRED = ("train_images", "train_labels", "test_images", "test_labels")


class Npz:
    """Arrays train_images, train_labels, test_images and test_labels, and optionally class_names.

    Images are [N, H, W], or [N, H, W, C] with C = 1 or 3 (channels last, always), uint8 or floats in [0, 1]. Labels
    are integers [N] from 0; class_names are strings [K]. Nothing in the file is unpickled.
    """

    def files(self, settings: Data) -> Mapping[str, Path]:
        path = Path(settings.root)
        if not path.is_file():
            msg = f"data.root = {settings.root!r}: file not found; data.dataset = 'npz' needs the path of an .npz file"
            raise DataError(msg)
        return {"npz": path}

    def read(self, settings: Data) -> Raw:
        path = self.files(settings)["npz"]
        arrays = _arrays(path)
        missing = [name for name in _REQUIRED if name not in arrays]
        if missing:
            msg = f"{path}: {', '.join(missing)} not found; it contains {', '.join(arrays) or 'no arrays'}"
            raise DataError(msg)
        train, test = (
            Part(_images(path, f"{part}_images", arrays), _labels(path, part, arrays)) for part in ("train", "test")
        )
        return Raw(_classes(path, arrays, train.labels), train, test)


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        # Opened here, because numpy does not close a file that is not an archive.
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                msg = "it is a single array; save the arrays with numpy.savez"
                raise ValueError(msg)
            with archive:
                return {name: archive[name] for name in (*_REQUIRED, "class_names") if name in archive.files}
    except (OSError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        msg = f"{path}: is not a readable .npz file of plain arrays: {error}"
        raise DataError(msg) from error


def _images(path: Path, name: str, arrays: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    images = arrays[name]
    if images.dtype != np.uint8 and not np.issubdtype(images.dtype, np.floating):
        msg = f"{path}: {name} is {images.dtype}; use uint8, or float32 in [0, 1]"
        raise DataError(msg)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape[1:]:
        msg = f"{path}: {name} has the shape {list(arrays[name].shape)}; use [N, H, W], or [N, H, W, C] with C = 1 or 3"
        raise DataError(msg)
    dtype = np.uint8 if images.dtype == np.uint8 else np.float32
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype)


def _labels(path: Path, part: str, arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
    labels = arrays[f"{part}_labels"]
    count = len(arrays[f"{part}_images"])
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != (count,):
        msg = f"{path}: {part}_labels is {labels.dtype} {list(labels.shape)}; use integers of the shape [{count}]"
        raise DataError(msg)
    return labels.astype(np.int64)


def _classes(path: Path, arrays: Mapping[str, NDArray[Any]], labels: NDArray[np.int64]) -> tuple[str, ...]:
    if "class_names" not in arrays:
        if (largest := labels.max(initial=0)) > len(labels):
            msg = f"{path}: train_labels has the label {largest} but only {len(labels)} images; labels count from 0"
            raise DataError(msg)
        return tuple(str(label) for label in range(labels.max(initial=-1) + 1))
    names = arrays["class_names"]
    if names.ndim != 1 or names.dtype.kind != "U":
        msg = f"{path}: class_names is {names.dtype} {list(names.shape)}; use strings of the shape [classes]"
        raise DataError(msg)
    return tuple(str(name) for name in names)
