"""A model of the core's kernels: the time that one non-zero weight costs per image."""

from __future__ import annotations

LANES = 16
"""Floats per vector of AVX-512; fixed, because masks must not depend on the machine that chooses them."""

_LOAD_MS = 2e-7
"""Time of one vector load: 0.62 cycles at 3 GHz.

Measured with AVX-512 on an AMD EPYC as the increase in time with the number of weights (3x3 convolutions of 128
channels, 5 to 10% of the weights, one thread): 0.37 ns per weight on 1 line (model 0.4), 0.7 to 1.1 on 4 (1.0), 1.8 on
9 (2.0), 3.3 on 16 (3.4), 6.8 on 36 (7.4), 13.6 on 64 (13.0).
"""


def milliseconds_per_weight(height: int, width: int) -> float:
    """Time for one more non-zero weight in a layer, on one thread.

    The core spreads an output plane over the lanes of its vectors (csrc/fold.hpp), and loads each of these lines, and
    the weight itself, once. So the last layers, whose maps leave lanes empty, cost more than their MACs suggest.

    Args:
        height: Height of the layer's output.
        width: Width of the layer's output.
    """
    return _LOAD_MS * (_lines(height, width) + 1)


def _lines(height: int, width: int) -> int:
    """Vectors per output plane, which is cut into a grid of at most `LANES` equal blocks, one per lane."""
    grids = [(rows, cols) for rows in (1, 2, 4, 8, 16) for cols in (1, 2, 4, 8, 16) if rows * cols <= LANES]
    return min(-(-height // rows) * -(-width // cols) for rows, cols in grids)
