"""Patterns of zeros that hardware requires."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def fits_n_of_m(shape: Sequence[int], m: int = 4) -> bool:
    """Whether a weight of the shape [out, in, ...] can be split into groups of m along its input channels."""
    return shape[1] % m == 0


def n_of_m_mask(scores: Tensor, *, n: int = 2, m: int = 4) -> Tensor:
    """Keeps the n largest scores of every m consecutive input channels, the earlier one if scores are equal.

    Args:
        scores: [out, in, kh, kw] or [out, in]; groups run along axis 1, for each output channel, row and column, as
            the sparse tensor cores of Ampere and later GPUs expect them.
        n: Number of scores kept per group.
        m: Size of a group; must divide the number of input channels.

    Returns:
        Boolean mask of the same shape.
    """
    if not fits_n_of_m(scores.shape, m):
        msg = f"{scores.shape[1]} input channels cannot be split into groups of {m}"
        raise ValueError(msg)
    grouped = scores.movedim(1, -1).reshape(*scores.movedim(1, -1).shape[:-1], -1, m)
    order = grouped.argsort(dim=-1, descending=True, stable=True)
    kept = torch.zeros_like(grouped, dtype=torch.bool).scatter_(-1, order[..., :n], value=True)
    return kept.flatten(-2).movedim(-1, 1).contiguous()
