"""The number of weights per layer if layers have their own shares instead of one global ranking."""

from __future__ import annotations

from collections.abc import Sequence


def apportion(shares: Sequence[float], sizes: Sequence[int], total: int, least: Sequence[int]) -> list[int]:
    """Numbers of weights per layer that add up to exactly `total`, as close to the shares as possible.

    All shares are scaled by one factor so that they add up, limited to each layer's size and minimum. They are rounded
    down, and the rest goes to the largest remainders, the earlier layer first if they are equal.

    Args:
        shares: Share of each layer's weights, in (0, 1].
        sizes: Number of weights of each layer, at least 1.
        total: Number of weights to keep.
        least: Minimum number of weights that each layer keeps.

    Raises:
        ValueError: No such numbers exist.
    """
    if not sum(least) <= total <= sum(sizes):
        msg = f"{total} weights cannot be distributed over layers of {list(sizes)} that keep at least {list(least)}"
        raise ValueError(msg)
    low, high = 0.0, 1 / min(shares)
    # Bisect down to adjacent floats: every share times `high` fills its layer.
    while low < (middle := (low + high) / 2) < high:
        if sum(_wanted(shares, sizes, least, middle)) < total:
            low = middle
        else:
            high = middle
    wanted = _wanted(shares, sizes, least, high)
    counts = [int(number) for number in wanted]
    by_remainder = sorted(range(len(sizes)), key=lambda layer: counts[layer] - wanted[layer])
    for layer in [layer for layer in by_remainder if counts[layer] < sizes[layer]][: total - sum(counts)]:
        counts[layer] += 1
    return counts


def _wanted(shares: Sequence[float], sizes: Sequence[int], least: Sequence[int], factor: float) -> list[float]:
    layers = zip(shares, sizes, least, strict=True)
    return [min(max(factor * share * size, float(fewest)), float(size)) for share, size, fewest in layers]
