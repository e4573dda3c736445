"""How many weights every layer keeps, where layers have shares of their own instead of one ranking over all."""

from __future__ import annotations

from collections.abc import Sequence


def apportion(shares: Sequence[float], sizes: Sequence[int], total: int, least: Sequence[int]) -> list[int]:
    """Whole numbers of weights per layer that add up to `total` exactly, as near to the shares as that allows.

    All shares are scaled by one factor until they add up, no layer getting more than it has or less than its least;
    what rounding down leaves goes to the largest remainders, the earlier layer where they are equal.

    Args:
        shares: Of each layer's weights, in (0, 1].
        sizes: Weights of each layer, at least 1.
        total: Number of weights to be kept.
        least: Number that each layer keeps in any case.

    Raises:
        ValueError: No such numbers exist.
    """
    if not sum(least) <= total <= sum(sizes):
        msg = f"{total} weights cannot be shared among layers of {list(sizes)} that keep at least {list(least)}"
        raise ValueError(msg)
    low, high = 0.0, 1 / min(shares)
    # Bisection down to neighbouring floats: every share times `high` fills its layer.
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
