"""The evidence of a bundle: the images that were attacked, what was found, and the record of the build."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tscnc_deploy.bundle.arrays import (
    ADVERSARIAL,
    IMAGES,
    LABELS,
    OUTCOME,
    check_images,
    check_vector,
    refuse,
    write_evidence,
)
from tscnc_deploy.record import BuildRecord


@dataclass(frozen=True, eq=False)
class Evidence:
    """Everything needed to repeat the measurements without the data set.

    Attributes:
        images: Held-out test images, float32 [N, C, H, W] in [0, 1].
        labels: Their classes, int64 [N].
        adversarial: For each engine (or "twin"), the strongest adversarial example found for each image, float32
            [N, C, H, W] in [0, 1].
        outcomes: For each "ENGINE.ATTACK", whether the engine classified each image correctly under that attack,
            bool [N].
        record: The record of the build: every evaluation, attack, gate and comparison.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    adversarial: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    outcomes: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    record: BuildRecord = field(kw_only=True)

    def __post_init__(self) -> None:
        check_images(IMAGES, self.images)
        for name, images in self.adversarial.items():
            check_images(ADVERSARIAL + name, images)
            if images.shape != self.images.shape:
                refuse(ADVERSARIAL + name, f"has the shape {list(images.shape)}, images {list(self.images.shape)}")
        check_vector(LABELS, self.labels, len(self.images), np.dtype(np.int64))
        for name, right in self.outcomes.items():
            check_vector(OUTCOME + name, right, len(self.images), np.dtype(np.bool_))

    def write(self, folder: Path) -> None:
        """Writes the two evidence files into the folder of a future bundle; equal evidence gives equal bytes.

        Raises:
            OSError: The files cannot be written.
        """
        arrays: dict[str, NDArray[Any]] = {IMAGES: self.images, LABELS: self.labels}
        arrays |= {ADVERSARIAL + name: images for name, images in self.adversarial.items()}
        write_evidence(folder, arrays, self.outcomes, self.record)
