"""Images of a bundle's evidence with their adversarial examples, for the page to show."""

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

# Of each kind; so many pairs of 224 x 224 pixels in RGB take 29 MB.
_MOST = 12


@dataclass(frozen=True, eq=False)
class Example:
    """An image that was attacked when the bundle was built.

    Attributes:
        place: Of the image in the evidence.
        label: Name of its class.
        misclassified: Whether an attack made the engine misclassify it.
        image: float32 [C, H, W] in [0, 1].
        adversarial: The strongest example that was found, like `image`.
    """

    place: int
    label: str
    misclassified: bool
    image: Array
    adversarial: Array

    def to_bytes(self) -> bytes:
        """The image and then the adversarial example, row-major little-endian float32."""
        return np.stack([self.image, self.adversarial]).astype("<f4").tobytes()


def choose_examples(bundle: Bundle, engine: str) -> tuple[Example, ...]:
    """The first images of the evidence that attacks broke, then the first that they did not.

    Images that the engine misclassifies as they are show nothing of an attack and are left out.

    Args:
        bundle: An opened bundle.
        engine: Name of an engine that was attacked.

    Returns:
        At most 12 of each kind; none if the bundle holds no images, or no examples of this engine.
    """
    try:
        evidence = bundle.evidence
    except BundleError:  # what is served needs none, so a bundle that withholds its images is served all the same
        return ()
    adversarial = evidence.adversarial.get(engine)
    outcomes = {
        key.rpartition(".")[2]: right for key, right in evidence.outcomes.items() if key.startswith(f"{engine}.")
    }
    clean = outcomes.pop("clean", None)
    if adversarial is None or not outcomes:
        return ()
    stood = np.logical_and.reduce(list(outcomes.values()))
    right = np.ones_like(stood) if clean is None else clean
    classes = bundle.manifest.model.classes

    def of(places: NDArray[np.intp], misclassified: bool) -> Sequence[Example]:
        return [
            Example(
                int(i), classes[evidence.labels[i]], misclassified, evidence.images[i].copy(), adversarial[i].copy()
            )
            for i in places[:_MOST]
        ]

    return (*of(np.flatnonzero(right & ~stood), True), *of(np.flatnonzero(right & stood), False))
