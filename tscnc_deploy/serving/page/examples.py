"""Chooses images from a bundle's evidence, with their adversarial examples, for the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tscnc_deploy.engines.base import Array
from tscnc_deploy.errors import BundleError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tscnc_deploy.bundle import Bundle

# Per kind; two kinds of 224 x 224 RGB images and their adversarial examples take 29 MB.
_MOST = 12


@dataclass(frozen=True, eq=False)
class Example:
    """An image that was attacked during the build.

    Attributes:
        index: Index of the image in the evidence.
        label: Name of its class.
        misclassified: Whether an attack made the engine misclassify it.
        image: float32 [C, H, W] in [0, 1].
        adversarial: The strongest adversarial example found, like `image`.
    """

    index: int
    label: str
    misclassified: bool
    image: Array
    adversarial: Array

    def to_bytes(self) -> bytes:
        """The image and then the adversarial example, row-major little-endian float32."""
        return np.stack([self.image, self.adversarial]).astype("<f4").tobytes()


def choose_examples(bundle: Bundle, engine: str) -> tuple[Example, ...]:
    """The first images of the evidence that an attack flipped, then the first that no attack flipped.

    Images that the engine misclassifies even without an attack are left out.

    Args:
        bundle: An opened bundle.
        engine: Name of an engine that was attacked.

    Returns:
        At most 12 of each kind; empty if the bundle contains no images, or no examples for this engine.
    """
    try:
        evidence = bundle.evidence
    except BundleError:  # serving does not need them, so a bundle that withholds its images can be served
        return ()
    adversarial = evidence.adversarial.get(engine)
    outcomes = {
        key.rpartition(".")[2]: outcome for key, outcome in evidence.outcomes.items() if key.startswith(f"{engine}.")
    }
    clean = outcomes.pop("clean", None)
    if adversarial is None or not outcomes:
        return ()
    robust = np.logical_and.reduce(list(outcomes.values()))
    correct = np.ones_like(robust) if clean is None else clean
    classes = bundle.manifest.model.classes

    def examples(indices: NDArray[np.intp], misclassified: bool) -> Sequence[Example]:
        return [
            Example(
                int(i), classes[evidence.labels[i]], misclassified, evidence.images[i].copy(), adversarial[i].copy()
            )
            for i in indices[:_MOST]
        ]

    return (*examples(np.flatnonzero(correct & ~robust), True), *examples(np.flatnonzero(correct & robust), False))
