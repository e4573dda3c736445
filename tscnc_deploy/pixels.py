"""The one conversion of 8-bit pixels to floats, shared by data sets and the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


@overload
def to_unit_range(pixels: NDArray[np.uint8]) -> NDArray[np.float32]: ...


@overload
def to_unit_range(pixels: Tensor) -> Tensor: ...


def to_unit_range(pixels: NDArray[np.uint8] | Tensor) -> NDArray[np.float32] | Tensor:
    """Divides by 255 in float32 with correct rounding, so NumPy and PyTorch give the same bits on every device.

    Multiplying by 1/255 instead changes 126 of the 256 values by one unit in the last place: a server that did so
    would give an engine different images from those it was evaluated on.

    Args:
        pixels: uint8, 0 to 255, of any shape; an array, or a tensor on any device.

    Returns:
        float32 in [0, 1] of the same shape, an array or a tensor on the same device.
    """
    if isinstance(pixels, np.ndarray):
        return np.divide(pixels, np.float32(255), dtype=np.float32)
    images = pixels.float()
    # On CUDA, PyTorch replaces the division by a Python number with a multiplication by its reciprocal.
    return images / images.new_tensor(255.0)
