"""The arrays of the evidence: their names, how they are written, and which are refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from tscnc_deploy.bundle.manifest import ARRAYS, RECORD
from tscnc_deploy.errors import BundleError
from tscnc_deploy.record import BuildRecord
from tscnc_deploy.text import quoted

IMAGES, LABELS = "images", "labels"
INDEX, DIGESTS = "index", "digests"
# Prefixes, followed by the name of an engine, or of an engine and an attack.
ADVERSARIAL, OUTCOME = "adversarial.", "outcome."


def write_evidence(
    folder: Path,
    arrays: Mapping[str, NDArray[Any]],
    outcomes: Mapping[str, NDArray[np.bool_]],
    record: BuildRecord,
) -> None:
    """Writes arrays, outcomes and record as the two evidence files of a bundle; raises what `Evidence.write` does."""
    flags = {OUTCOME + name: right.astype(np.uint8) for name, right in outcomes.items()}
    contiguous = {name: np.ascontiguousarray(array) for name, array in {**arrays, **flags}.items()}
    (folder / RECORD).parent.mkdir(parents=True, exist_ok=True)
    (folder / RECORD).write_bytes(record.to_bytes())
    (folder / ARRAYS).write_bytes(safetensors.numpy.save(contiguous))


def read_flags(name: str, array: NDArray[Any]) -> NDArray[np.bool_]:
    """Converts outcomes from the file's 0 and 1 to bool."""
    if array.dtype != np.uint8 or (array > 1).any():
        refuse(name, f"must hold 0 and 1 as uint8, not {array.dtype}")
    return array.astype(np.bool_)


def check_images(name: str, array: NDArray[Any]) -> None:
    """Refuses an array that holds no images, float32 [N, C, H, W] in [0, 1]."""
    if array.dtype != np.float32 or array.ndim != 4:
        refuse(name, f"must be float32 [N, C, H, W], not {array.dtype} {list(array.shape)}")
    # NaN compares false with everything, so this refuses it too.
    if not ((array >= 0) & (array <= 1)).all():
        refuse(name, "has values outside [0, 1]")


def check_vector(name: str, array: NDArray[Any], count: int, dtype: np.dtype[Any]) -> None:
    """Refuses an array of another dtype or length."""
    if array.dtype != dtype or array.shape != (count,):
        refuse(name, f"must be {dtype} [{count}], not {array.dtype} {list(array.shape)}")


def refuse(name: str, reason: str) -> NoReturn:
    """Raises the BundleError for an invalid array."""
    msg = f"{ARRAYS}: the array {quoted(name)} {reason}"
    raise BundleError(msg)
