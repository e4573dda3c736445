"""Computes masks from saliencies: one global ranking, with a minimum for every layer and filter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from tscnc_deploy.errors import InputError
from tscnc_deploy.tscnc.allocation import allocate
from tscnc_deploy.tscnc.filters import fill_with_units, has_filters, least_filters, spread, worth
from tscnc_deploy.tscnc.patterns import fits_n_of_m, n_of_m_mask


def rank_globally(
    scores: Mapping[str, Tensor],
    sparsity: float,
    *,
    floor: float = 0.0,
    pattern: str = "unstructured",
    costs: Mapping[str, float] | None = None,
    among: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Computes masks that keep the most salient weights of a network.

    Every layer keeps at least `floor` of its weights and every filter its most salient weight, as a layer or filter
    without weights passes no signal, and a zero row has no condition number. The rest of the budget goes to the largest
    scores anywhere, the earlier weight if scores are equal.

    With costs, the kept weights also cost at most the share 1 - sparsity of the cost of all weights, or as little as
    the floors allow: weights are ranked by score - lambda * cost with the smallest lambda >= 0 that achieves this, see
    `allocate`. (Ranking by score / cost does not work: if costs differ by a factor of a hundred, it prunes expensive
    layers to the floor and fills cheap ones with useless weights.)

    With the pattern "filters", convolutions keep or lose whole filters by their mean score, see `fill_with_units`;
    every convolution keeps at least one. Linear layers keep single weights as above.

    Args:
        scores: Saliency of each weight by layer, [out, in, kh, kw] or [out, in], >= 0 and finite.
        sparsity: Share of zeros over all layers, in [0, 1); met exactly: round(sparsity * weights) zeros. "filters" has
            at least that many, and more if neither a filter nor a single weight fits the rest.
        floor: Minimum share that every layer keeps.
        pattern: "unstructured", or "2:4" for at most 2 of 4 along the input channels, or "filters". Layers whose input
            channels cannot be split into groups of 4 (a stem, a depthwise convolution) stay unstructured under "2:4".
        costs: Cost of one weight of each layer, finite and above 0, in any unit; None for no costs. Not for "filters".
        among: Masks of the weights that may be kept, from a ranking at lower sparsity with the same floor and pattern,
            if removed weights cannot come back; None for all weights.

    Returns:
        Boolean masks, true where a weight is kept.

    Raises:
        InputError: The floors keep more weights than the sparsity allows, the pattern keeps fewer, or a score is not
            finite.
        ValueError: A cost is missing, not finite, or not above 0, or costs are given for whole filters.
    """
    if pattern == "filters" and costs is not None:
        msg = "whole filters are ranked by their weights alone; do not pass costs"
        raise ValueError(msg)
    for name, layer in scores.items():
        if not torch.isfinite(layer).all():
            msg = f"saliency of {name} is not finite: the network has diverged; lower the learning rate"
            raise InputError(msg)
    check_budget({name: layer.shape for name, layer in scores.items()}, sparsity, floor=floor, pattern=pattern)
    among = among or {name: torch.ones_like(layer, dtype=torch.bool) for name, layer in scores.items()}
    eligible = {name: _eligible(layer, pattern, among[name]) for name, layer in scores.items()}
    total = sum(layer.numel() for layer in scores.values())
    keep = total - round(sparsity * total)
    forced = {name: _forced(layer, eligible[name], floor, pattern) for name, layer in scores.items()}
    rest = keep - sum(int(mask.sum()) for mask in forced.values())
    open_places = {name: eligible[name] & ~forced[name] for name in scores}
    if pattern == "filters":
        return {name: forced[name] | more for name, more in fill_with_units(scores, open_places, rest).items()}
    pool = {name: layer[open_places[name]] for name, layer in scores.items()}
    if costs is None:
        sizes = [len(layer) for layer in pool.values()]
        chosen = dict(zip(pool, _largest(torch.cat(list(pool.values())), rest).split_with_sizes(sizes), strict=True))
    else:
        allowance = (1 - sparsity) * sum(costs.get(name, math.nan) * layer.numel() for name, layer in scores.items())
        allowance -= sum(costs.get(name, math.nan) * int(mask.sum()) for name, mask in forced.items())
        ordered = {name: np.sort(layer.cpu().numpy()) for name, layer in pool.items()}
        counts = allocate(ordered, costs, rest, allowance)
        chosen = {name: _largest(layer, counts[name]) for name, layer in pool.items()}
    for name, places in open_places.items():
        forced[name][places] = chosen[name]
    return forced


def least_sparsity(shapes: Mapping[str, Sequence[int]], pattern: str) -> float:
    """Share of zeros that a pattern requires: about half for 2:4, 0 for the others."""
    total = sum(math.prod(shape) for shape in shapes.values())
    grouped = sum(math.prod(shape) for shape in shapes.values() if _is_grouped(shape, pattern))
    return grouped / 2 / total


def check_budget(
    shapes: Mapping[str, Sequence[int]], sparsity: float, *, floor: float = 0.0, pattern: str = "unstructured"
) -> None:
    """Refuses settings that `rank_globally` cannot meet, from the layers' shapes alone.

    Raises:
        InputError: Floors and filters keep more weights than the sparsity allows, or the pattern keeps fewer.
    """
    total = sum(math.prod(shape) for shape in shapes.values())
    keep = total - round(sparsity * total)
    floors = sum(_least(shape, floor, pattern) for shape in shapes.values())
    if keep < floors:
        one = "filter per convolution" if pattern == "filters" else "weight per filter"
        msg = (
            f"sparsity {sparsity:g} keeps {keep} of {total} weights, but a floor of {floor:g} per layer and one {one} "
            f"keep {floors}; lower the floor or the sparsity"
        )
        raise InputError(msg)
    least = least_sparsity(shapes, pattern)
    if round(sparsity * total) < round(least * total):
        msg = f"pattern {pattern} removes {least:.2%} of the weights by itself; sparsity {sparsity:g} is less"
        raise InputError(msg)


def _is_grouped(shape: Sequence[int], pattern: str) -> bool:
    return pattern == "2:4" and fits_n_of_m(shape)


def _is_of_filters(shape: Sequence[int], pattern: str) -> bool:
    return pattern == "filters" and has_filters(shape)


def _least(shape: Sequence[int], floor: float, pattern: str) -> int:
    if _is_of_filters(shape, pattern):
        return least_filters(shape, floor) * math.prod(shape[1:])
    # A filter's last weight may be among those that the floor keeps; the larger number is always enough.
    return max(math.ceil(floor * math.prod(shape)), shape[0])


def _eligible(scores: Tensor, pattern: str, among: Tensor) -> Tensor:
    return n_of_m_mask(scores.masked_fill(~among, -1)) & among if _is_grouped(scores.shape, pattern) else among


def _forced(scores: Tensor, eligible: Tensor, floor: float, pattern: str) -> Tensor:
    """The weights that are always kept, among those that the pattern allows."""
    if _is_of_filters(scores.shape, pattern):
        return spread(_largest(worth(scores, eligible), least_filters(scores.shape, floor)), scores)
    flat = scores.masked_fill(~eligible, -1).reshape(scores.shape[0], -1)
    forced = torch.zeros_like(flat, dtype=torch.bool)
    forced.scatter_(1, flat.argmax(dim=1, keepdim=True), value=True)
    # Filters first, because a floor on top of them could exceed the budget that was checked.
    missing = math.ceil(floor * flat.numel()) - int(forced.sum())
    if missing > 0:
        rest = flat.masked_fill(forced, -1).flatten()
        forced |= _largest(rest, missing).view_as(forced)
    return forced.view_as(scores)


def _largest(values: Tensor, count: int) -> Tensor:
    """Mask of exactly the `count` largest entries of a vector, the earlier ones if entries are equal."""
    if count == 0:
        return torch.zeros_like(values, dtype=torch.bool)
    # Selection takes linear time; sorting the millions of weights of a network takes seconds.
    threshold = values.kthvalue(len(values) - count + 1).values
    above = values > threshold
    equal = values == threshold
    missing = count - above.sum()
    return above | (equal & (equal.cumsum(0) <= missing))
