"""Evidence without its images, for data that must not be shipped: where they are in the data set, and their digests."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tscnc_deploy.bundle.arrays import DIGESTS, INDEX, OUTCOME, check_vector, read_flags, refuse, write_evidence
from tscnc_deploy.bundle.evidence import Evidence
from tscnc_deploy.bundle.manifest import ARRAYS
from tscnc_deploy.errors import BundleError
from tscnc_deploy.record import BuildRecord


@dataclass(frozen=True, eq=False)
class WithheldEvidence:
    """The evidence of a bundle that does not ship its images.

    It does not contain adversarial examples either, because they show each image to within epsilon, or labels, which
    the digests cover. Anyone who has an image can tell from its digest that it is one of these; nobody else learns
    anything.

    Attributes:
        index: Index of each image among the test images of the recipe's data section, int64 [N].
        digests: SHA-256 of each image, see `digest_images`, uint8 [N, 32].
        outcomes: For each "ENGINE.ATTACK", whether the engine classified each image correctly under that attack,
            bool [N].
        record: The record of the build.
    """

    index: NDArray[np.int64]
    digests: NDArray[np.uint8]
    outcomes: Mapping[str, NDArray[np.bool_]]
    record: BuildRecord

    def __post_init__(self) -> None:
        count = len(self.index) if self.index.ndim else 0
        check_vector(INDEX, self.index, count, np.dtype(np.int64))
        if (self.index < 0).any() or len(np.unique(self.index)) != count:
            refuse(INDEX, "has a negative or repeated index")
        if self.digests.dtype != np.uint8 or self.digests.shape != (count, 32):
            refuse(DIGESTS, f"must be uint8 [{count}, 32], not {self.digests.dtype} {list(self.digests.shape)}")
        for name, right in self.outcomes.items():
            check_vector(OUTCOME + name, right, count, np.dtype(np.bool_))

    @classmethod
    def of(cls, evidence: Evidence, index: NDArray[np.int64]) -> WithheldEvidence:
        """The same evidence without its images.

        Args:
            evidence: The evidence with images.
            index: Their indices in the data set, int64 [N].
        """
        return cls(index, digest_images(evidence.images, evidence.labels), evidence.outcomes, evidence.record)

    def write(self, folder: Path) -> None:
        """Writes the two evidence files; see `Evidence.write`."""
        write_evidence(folder, {INDEX: self.index, DIGESTS: self.digests}, self.outcomes, self.record)

    def complete(self, images: NDArray[np.float32], labels: NDArray[np.int64]) -> Evidence:
        """The evidence with its images, taken from the data set.

        Args:
            images: All test images of the data set, float32 [M, C, H, W] in [0, 1].
            labels: Their labels, int64 [M].

        Raises:
            BundleError: The data set has fewer images, or other images at these indices.
        """
        if len(self.index) and self.index.max() >= len(labels):
            msg = f"{ARRAYS}: names test image {self.index.max()}; the given data set has {len(labels)}"
            raise BundleError(msg)
        found = Evidence(images[self.index], labels[self.index], {}, self.outcomes, record=self.record)
        wrong = np.flatnonzero((digest_images(found.images, found.labels) != self.digests).any(axis=1))
        if len(wrong):
            msg = (
                f"{ARRAYS}: {len(wrong)} of {len(self.index)} images of the given data set are not those that were "
                f"evaluated; the first is test image {self.index[wrong[0]]}: use the same data and data settings"
            )
            raise BundleError(msg)
        return found


def digest_images(images: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.uint8]:
    """SHA-256 of each image's label (8 bytes) and pixels (4 bytes each, C order), both little-endian; uint8 [N, 32]."""
    pixels, classes = np.ascontiguousarray(images, "<f4"), labels.astype("<i8")
    digests = [
        hashlib.sha256(label.tobytes() + image.tobytes()).digest() for image, label in zip(pixels, classes, strict=True)
    ]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(len(digests), 32)


def parse_withheld(tensors: dict[str, NDArray[Any]], record: BuildRecord) -> WithheldEvidence:
    """Reads evidence without images from an untrusted source.

    Args:
        tensors: Tensors of the safetensors file.
        record: Record of the build.

    Raises:
        BundleError: An array is missing or has the wrong type, shape or values.
    """
    outcomes = {}
    if DIGESTS not in tensors:
        refuse(DIGESTS, "is missing")
    index, digests = tensors.pop(INDEX), tensors.pop(DIGESTS)
    for name, array in tensors.items():
        if not name.startswith(OUTCOME):
            refuse(name, "is not expected beside an index")
        outcomes[name.removeprefix(OUTCOME)] = read_flags(name, array)
    return WithheldEvidence(index, digests, outcomes, record)
