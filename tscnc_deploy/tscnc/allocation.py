"""Allocates the number of weights per layer under a budget on their total cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Range and precision of the search for lambda, in powers of two.
_OCTAVES = 64
_LAMBDA_STEPS = 20
_THRESHOLD_STEPS = 64

Scores = NDArray[np.floating[Any]]


def allocate(scores: Mapping[str, Scores], costs: Mapping[str, float], count: int, allowance: float) -> dict[str, int]:
    """How many of its largest scores each layer keeps: `count` in total, at a cost of at most `allowance` if possible.

    Keeps the largest values of score - lambda * cost with the smallest lambda >= 0 that meets the allowance. Among all
    choices of `count` scores at no greater cost, this has the greatest total (Everett, Operations Research 11, 1963).

    Args:
        scores: Scores of each layer, [N], >= 0, finite, ascending.
        costs: Cost of one score of each layer, in any unit.
        count: Number of scores to keep, at most the number of all scores.
        allowance: Maximum cost, in the unit of the costs. If even the cheapest scores exceed it, these are kept.

    Raises:
        ValueError: A cost is missing, not finite, or not above 0; the message names the layer.
    """
    for name in scores:
        cost = costs.get(name, math.nan)
        if not 0 < cost < math.inf:
            msg = f"the cost of a weight of {name} is {cost}, not a number above 0"
            raise ValueError(msg)

    def spent(kept: Mapping[str, int]) -> float:
        return sum(costs[name] * number for name, number in kept.items())

    kept = _kept(scores, costs, count, 0.0)
    prices = sorted({costs[name] for name in scores})
    largest = max((float(layer[-1]) for layer in scores.values() if len(layer)), default=0.0)
    if spent(kept) <= allowance or len(prices) == 1 or not largest:
        return kept
    # With the highest lambda, no difference of scores outweighs the smallest difference of costs.
    high = math.log2(largest / min(after - before for before, after in pairwise(prices))) + 1
    low = high - _OCTAVES
    kept = _kept(scores, costs, count, 2.0**high)
    for _ in range(_LAMBDA_STEPS):
        middle = (low + high) / 2
        tried = _kept(scores, costs, count, 2.0**middle)
        if spent(tried) <= allowance:
            kept, high = tried, middle
        else:
            low = middle
    return kept


def _kept(scores: Mapping[str, Scores], costs: Mapping[str, float], count: int, multiplier: float) -> dict[str, int]:
    """How many scores of each layer are among the `count` largest of score - multiplier * cost."""

    def above(threshold: float) -> dict[str, int]:
        # In the precision of the scores, because numpy would convert millions of scores for a wider bound.
        bounds = {name: layer.dtype.type(threshold + multiplier * costs[name]) for name, layer in scores.items()}
        return {
            name: len(layer) - int(np.searchsorted(layer, bounds[name], side="right")) for name, layer in scores.items()
        }

    ends = [
        float(end) - multiplier * costs[name] for name, layer in scores.items() if len(layer) for end in layer[[0, -1]]
    ]
    if not ends:
        return dict.fromkeys(scores, 0)
    # Below all of them, and not below any of them.
    low, high = min(ends) - abs(min(ends)) - 1, max(ends)
    for _ in range(_THRESHOLD_STEPS):
        middle = (low + high) / 2
        if sum(above(middle).values()) > count:
            low = middle
        else:
            high = middle
    kept, possible = above(high), above(low)
    # If scores are equal except for rounding, keep those of the cheaper layers.
    for name in sorted(scores, key=lambda name: costs[name]):
        kept[name] += min(possible[name] - kept[name], count - sum(kept.values()))
    return kept
