"""Pruning of whole filters: output channels of convolutions, but single weights of linear layers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def has_filters(shape: Sequence[int]) -> bool:
    """Whether a shape is that of a convolution's weight, [out, in, kh, kw], and not of a linear layer's, [out, in]."""
    return len(shape) > 2


def least_filters(shape: Sequence[int], floor: float) -> int:
    """Minimum number of filters that a convolution keeps: the share `floor`, and at least one."""
    return max(math.ceil(floor * shape[0]), 1)


def as_units(values: Tensor) -> Tensor:
    """The units to prune as rows: [out, in * kh * kw] of a convolution, [out * in, 1] of a linear layer."""
    return values.reshape(len(values) if has_filters(values.shape) else values.numel(), -1)


def worth(scores: Tensor, places: Tensor) -> Tensor:
    """Mean score per weight of every unit, [units], float64; -1 if not all of the unit may be taken."""
    means = as_units(scores).mean(dim=1, dtype=torch.float64)
    return means.masked_fill(~as_units(places).all(dim=1), -1)


def spread(units: Tensor, layer: Tensor) -> Tensor:
    """The mask of a layer's shape that keeps all weights of the marked units, [units]."""
    return units[:, None].expand_as(as_units(layer)).reshape(layer.shape)


def fill_with_units(scores: Mapping[str, Tensor], places: Mapping[str, Tensor], room: int) -> dict[str, Tensor]:
    """Selects units with up to `room` weights: largest mean scores first, over all layers, skipping those too large.

    A filter's score is the sum over its weights (Molchanov et al., arXiv 1906.10771); ordering by score per weight is
    the greedy approximation of the greatest total (Dantzig, Operations Research 5, 1957). The sum estimates a loss,
    which has the same scale in all layers, unlike scores of activations, which arXiv 1611.06440 divides by their norm
    in each layer.

    Args:
        scores: Score of each weight, by layer.
        places: Weights that may be taken; a filter only if all its weights may be.
        room: Maximum number of weights.

    Returns:
        Masks of the selected weights: `room` weights, or fewer if no other unit fits.
    """
    values = [worth(layer, places[name]).cpu() for name, layer in scores.items()]
    counts = [len(value) for value in values]
    sizes = torch.tensor([as_units(layer).shape[1] for layer in scores.values()])
    sizes = sizes.repeat_interleave(torch.tensor(counts))
    pool = torch.cat(values)
    order = pool.argsort(descending=True, stable=True)[: int((pool >= 0).sum())]
    taken = torch.zeros_like(pool, dtype=torch.bool)
    for unit, size in zip(order.tolist(), sizes[order].tolist(), strict=True):
        if size <= room:
            taken[unit] = True
            room -= size
    layers = zip(scores.items(), taken.split_with_sizes(counts), strict=True)
    return {name: spread(part.to(layer.device), layer) for (name, layer), part in layers}
