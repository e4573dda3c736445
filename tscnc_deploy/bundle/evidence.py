"""The evidence of a bundle: the images that were attacked, what was found, and the record of the build."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from tscnc_deploy import strict_json
from tscnc_deploy.bundle.manifest import ARRAYS, RECORD, ModelFacts
from tscnc_deploy.errors import BundleError
from tscnc_deploy.text import quoted

if TYPE_CHECKING:
    from tscnc_deploy.bundle.withheld import WithheldEvidence

_ADVERSARIAL = "adversarial."
OUTCOME = "outcome."
# Names and shapes of a few arrays for each engine and each attack.
_MAX_HEADER = 1 << 20


@dataclass(frozen=True, eq=False)
class Evidence:
    """What anyone needs to repeat the measurements without the data set.

    Attributes:
        images: Held-out test images, float32 [N, C, H, W] in [0, 1].
        labels: Their classes, int64 [N].
        adversarial: By the name of an engine (or "twin"), the strongest adversarial example found for each image,
            float32 [N, C, H, W] in [0, 1].
        outcomes: By "ENGINE.ATTACK", whether the engine was right on each image under that attack, bool [N].
        record: The record of the build: every evaluation, attack, gate and comparison, as in `report.data`.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    adversarial: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    outcomes: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_images("images", self.images)
        for name, images in self.adversarial.items():
            _check_images(_ADVERSARIAL + name, images)
            if images.shape != self.images.shape:
                refuse(_ADVERSARIAL + name, f"has the shape {list(images.shape)}, images {list(self.images.shape)}")
        check_vector("labels", self.labels, len(self.images), np.dtype(np.int64))
        for name, right in self.outcomes.items():
            check_vector(OUTCOME + name, right, len(self.images), np.dtype(np.bool_))

    def write(self, folder: Path) -> None:
        """Writes the two evidence files into a folder that is to become a bundle; equal evidence gives equal bytes.

        Raises:
            BundleError: The record holds NaN or infinity.
            OSError: The files cannot be written.
        """
        arrays: dict[str, NDArray[Any]] = {"images": self.images, "labels": self.labels}
        arrays |= {_ADVERSARIAL + name: images for name, images in self.adversarial.items()}
        write_evidence(folder, arrays, self.outcomes, self.record)


def write_evidence(
    folder: Path,
    arrays: Mapping[str, NDArray[Any]],
    outcomes: Mapping[str, NDArray[np.bool_]],
    record: Mapping[str, Any],
) -> None:
    """Writes arrays, outcomes and record as the two evidence files of a bundle; raises what `Evidence.write` does."""
    try:
        # Stages and attacks are in the order in which they were run.
        told = strict_json.dumps(dict(record), sort_keys=False)
    except ValueError:
        msg = f"{folder / RECORD}: the record holds NaN or infinity; write null"
        raise BundleError(msg) from None
    flags = {OUTCOME + name: right.astype(np.uint8) for name, right in outcomes.items()}
    contiguous = {name: np.ascontiguousarray(array) for name, array in {**arrays, **flags}.items()}
    (folder / RECORD).parent.mkdir(parents=True, exist_ok=True)
    (folder / RECORD).write_bytes(told)
    (folder / ARRAYS).write_bytes(safetensors.numpy.save(contiguous))


def parse_record(data: bytes) -> dict[str, Any]:
    """Reads the record of a build.

    Raises:
        BundleError: It is no JSON object of one meaning.
    """
    try:
        record = strict_json.loads(data)
    except ValueError as error:
        msg = f"{RECORD} {error}"
        raise BundleError(msg) from None
    if not isinstance(record, dict):
        msg = f"{RECORD} is not a JSON object"
        raise BundleError(msg)
    return record


def parse_evidence(arrays: bytes, record: bytes, model: ModelFacts) -> Evidence | WithheldEvidence:
    """Reads evidence that may come from anyone.

    Args:
        arrays: The bytes of the safetensors file.
        record: The bytes of the JSON file.
        model: The network that the images are for.

    Raises:
        BundleError: One of them is damaged, or an array is missing or has the wrong type, shape or values.
    """
    if (length := int.from_bytes(arrays[:8], "little")) > _MAX_HEADER:
        msg = f"{ARRAYS} has a header of {length} bytes; at most {_MAX_HEADER} are allowed"
        raise BundleError(msg)
    try:
        tensors = safetensors.numpy.load(arrays)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        msg = f"{ARRAYS} is not a safetensors file: {quoted(str(error))}"
        raise BundleError(msg) from None
    if "index" in tensors:
        from tscnc_deploy.bundle.withheld import parse_withheld

        return parse_withheld(tensors, parse_record(record))
    if missing := [name for name in ("images", "labels") if name not in tensors]:
        msg = f"{ARRAYS} has no array {missing[0]}"
        raise BundleError(msg)
    images, labels = tensors.pop("images"), tensors.pop("labels")
    adversarial, outcomes = {}, {}
    for name, array in tensors.items():
        if name.startswith(_ADVERSARIAL):
            adversarial[name.removeprefix(_ADVERSARIAL)] = array
        elif name.startswith(OUTCOME):
            outcomes[name.removeprefix(OUTCOME)] = read_flags(name, array)
        else:
            refuse(name, "has no meaning here")
    evidence = Evidence(images, labels, adversarial, outcomes, parse_record(record))
    if images.shape[1:] != model.input_shape:
        refuse("images", f"holds images of {list(images.shape[1:])}, the model takes {list(model.input_shape)}")
    if ((labels < 0) | (labels >= len(model.classes))).any():
        refuse("labels", f"names a class outside 0 to {len(model.classes) - 1}")
    return evidence


def read_flags(name: str, array: NDArray[Any]) -> NDArray[np.bool_]:
    """Outcomes as the file holds them, 0 and 1, as truth values."""
    if array.dtype != np.uint8 or (array > 1).any():
        refuse(name, f"must hold 0 and 1 as uint8, not {array.dtype}")
    return array.astype(np.bool_)


def _check_images(name: str, array: NDArray[Any]) -> None:
    if array.dtype != np.float32 or array.ndim != 4:
        refuse(name, f"must be float32 [N, C, H, W], not {array.dtype} {list(array.shape)}")
    # NaN compares false with everything, so this refuses it too.
    if not ((array >= 0) & (array <= 1)).all():
        refuse(name, "has values outside [0, 1]")


def check_vector(name: str, array: NDArray[Any], count: int, dtype: np.dtype[Any]) -> None:
    """Refuses an array that is not of a type and a length."""
    if array.dtype != dtype or array.shape != (count,):
        refuse(name, f"must be {dtype} [{count}], not {array.dtype} {list(array.shape)}")


def refuse(name: str, reason: str) -> NoReturn:
    """Raises the BundleError of an array that is not what it should be."""
    msg = f"{ARRAYS}: the array {quoted(name)} {reason}"
    raise BundleError(msg)
