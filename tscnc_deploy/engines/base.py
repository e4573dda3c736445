"""The engine interface: an opened artefact that turns images into logits, whatever runs it.

Attacks, parity checks, benchmarks and servers use only the `Engine` protocol. `CheckedEngine` is the base class of
the engines in this package: it validates images once and splits them into batches that the artefact accepts, so a
subclass implements a single method.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tscnc_deploy.errors import EngineInputError

Array = NDArray[np.float32]


@dataclass(frozen=True)
class EngineSpec:
    """Describes an engine to its callers.

    Attributes:
        name: Name of the target that it was built for, or "twin".
        kind: The runtime: "torch", "onnxruntime", "tensorrt", ...
        input_shape: (channels, height, width) of one image.
        classes: Number of logits per image.
        precision: Precision of the arithmetic as read back from the artefact, such as "fp32".
        provider: The device or execution provider that actually runs it, such as "CPUExecutionProvider".
        batch_min: Smallest batch the artefact accepts.
        batch_max: Largest batch given to the artefact in one call; longer inputs are split.
        single_images: Whether it is 1 because the artefact quantises dynamically, with scales of the whole batch.
    """

    name: str
    kind: str
    input_shape: tuple[int, int, int]
    classes: int
    precision: str
    provider: str
    batch_min: int = 1
    batch_max: int = 1024
    single_images: bool = False


@runtime_checkable
class Engine(Protocol):
    """An opened artefact. `logits` maps float32 [N, C, H, W] in [0, 1] to float32 [N, K]."""

    @property
    def spec(self) -> EngineSpec: ...

    def logits(self, images: Array) -> Array: ...


def check_images(images: object, input_shape: tuple[int, int, int]) -> Array:
    """Returns the images unchanged if they are valid input for an engine.

    Args:
        images: Must be a float32 array [N, C, H, W] with values in [0, 1].
        input_shape: The (C, H, W) that the engine was built for.

    Raises:
        EngineInputError: Wrong type, dtype or shape, or a value that is NaN, infinite or outside [0, 1]; the message
            gives the first such index.
    """
    if not isinstance(images, np.ndarray):
        msg = f"images must be a float32 numpy array, not {type(images).__name__}"
        raise EngineInputError(msg)
    if images.dtype != np.float32:
        hint = "; divide uint8 pixels by 255 first" if images.dtype == np.uint8 else ""
        msg = f"images must be float32, not {images.dtype}{hint}"
        raise EngineInputError(msg)
    if images.ndim != 4 or images.shape[1:] != input_shape:
        expected = ", ".join(str(size) for size in input_shape)
        msg = f"images must have the shape [N, {expected}], not {list(images.shape)}"
        raise EngineInputError(msg)
    # One comparison catches both bounds and NaN, since NaN compares false with everything.
    inside = (images >= 0) & (images <= 1)
    if not inside.all():
        index = tuple(int(i) for i in np.argwhere(~inside)[0])
        msg = f"images must lie in [0, 1]: the value at {list(index)} is {images[index]}"
        raise EngineInputError(msg)
    return images


class CheckedEngine(ABC):
    """Base class of this package's engines: checks images, splits them into batches and joins the logits."""

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec

    @property
    def spec(self) -> EngineSpec:
        """What this engine accepts and what runs it."""
        return self._spec

    def logits(self, images: Array) -> Array:
        """Logits of images, float32 [N, C, H, W] in [0, 1] -> float32 [N, K]; N may be 0 or any size.

        Raises:
            EngineInputError: See `check_images`.
        """
        return self.compute(check_images(images, self._spec.input_shape))

    def compute(self, images: Array) -> Array:
        """Logits of images of the right shape and dtype; values are not checked, as the caller normalised them."""
        step = self._spec.batch_max
        parts = [self._padded(images[start : start + step]) for start in range(0, len(images), step)]
        if not parts:
            return np.empty((0, self._spec.classes), np.float32)
        return np.concatenate(parts)

    def _padded(self, images: Array) -> Array:
        missing = self._spec.batch_min - len(images)
        if missing <= 0:
            return self._run(images)
        padding = np.zeros((missing, *self._spec.input_shape), np.float32)
        return self._run(np.concatenate([images, padding]))[: len(images)]

    @abstractmethod
    def _run(self, images: Array) -> Array:
        """Logits of one batch of checked images; the batch has batch_min to batch_max of them."""
