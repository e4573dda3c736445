"""From saliencies to masks: one ranking over the whole network, with a floor under every layer and filter."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from tscnc_deploy.errors import InputError
from tscnc_deploy.tscnc.patterns import fits_n_of_m, n_of_m_mask


def rank_globally(
    scores: Mapping[str, Tensor], sparsity: float, *, floor: float = 0.0, pattern: str = "unstructured"
) -> dict[str, Tensor]:
    """Masks that keep the most salient weights of a network.

    Every layer keeps at least `floor` of its weights and every filter its most salient weight: a layer or a filter
    without weights passes no signal, and a zero row has no condition number. What remains of the budget goes to the
    largest scores wherever they are, the earlier weight where scores are equal.

    Args:
        scores: Saliency of each weight by layer, [out, in, kh, kw] or [out, in], >= 0 and finite.
        sparsity: Share of zeros over all layers together, in [0, 1); met exactly: round(sparsity * weights) zeros.
        floor: Least share that every layer keeps.
        pattern: "unstructured", or "2:4" for at most 2 of 4 along the input channels. Layers whose input channels
            cannot be split into groups of 4 (a stem, a depthwise convolution) stay unstructured.

    Returns:
        Boolean masks, true where a weight is kept.

    Raises:
        InputError: The floors keep more weights than the sparsity allows, the pattern keeps fewer, or a score is not
            finite.
    """
    for name, layer in scores.items():
        if not torch.isfinite(layer).all():
            msg = f"saliency of {name} is not finite: the network has diverged; lower the learning rate"
            raise InputError(msg)
    eligible = {name: _eligible(layer, pattern) for name, layer in scores.items()}
    total = sum(layer.numel() for layer in scores.values())
    keep = total - round(sparsity * total)
    forced = {name: _forced(layer, floor) & eligible[name] for name, layer in scores.items()}
    rest = keep - sum(int(mask.sum()) for mask in forced.values())
    if rest < 0:
        msg = (
            f"sparsity {sparsity:g} keeps {keep} of {total} weights, but a floor of {floor:g} per layer and one weight "
            f"per filter keep {keep - rest}; lower prune.floor or prune.sparsity"
        )
        raise InputError(msg)
    open_places = {name: eligible[name] & ~forced[name] for name in scores}
    available = sum(int(mask.sum()) for mask in open_places.values())
    if rest > available:
        msg = (
            f"pattern {pattern} keeps at most {keep - rest + available} of {total} weights, "
            f"sparsity {sparsity:g} keeps {keep}; raise prune.sparsity"
        )
        raise InputError(msg)
    pool = torch.cat([layer[open_places[name]] for name, layer in scores.items()])
    chosen = _largest(pool, rest)
    masks = {}
    start = 0
    for name, places in open_places.items():
        count = int(places.sum())
        mask = forced[name].clone()
        mask[places] = chosen[start : start + count]
        masks[name] = mask
        start += count
    return masks


def _eligible(scores: Tensor, pattern: str) -> Tensor:
    if pattern == "2:4" and fits_n_of_m(scores):
        return n_of_m_mask(scores)
    return torch.ones_like(scores, dtype=torch.bool)


def _forced(scores: Tensor, floor: float) -> Tensor:
    flat = scores.reshape(scores.shape[0], -1)
    forced = torch.zeros_like(flat, dtype=torch.bool)
    forced.scatter_(1, flat.argmax(dim=1, keepdim=True), value=True)
    if floor > 0:
        forced |= _largest(flat.flatten(), math.ceil(floor * flat.numel())).view_as(forced)
    return forced.view_as(scores)


def _largest(values: Tensor, count: int) -> Tensor:
    """Mask of exactly `count` largest entries of a vector, the earlier ones where entries are equal."""
    if count == 0:
        return torch.zeros_like(values, dtype=torch.bool)
    # A selection takes linear time; sorting the millions of weights of a network takes seconds.
    threshold = values.kthvalue(len(values) - count + 1).values
    above = values > threshold
    equal = values == threshold
    missing = count - above.sum()
    return above | (equal & (equal.cumsum(0) <= missing))
