"""Exact projections onto balls and hyperplanes, inside the box [0, 1]; vectorised over images.

All of them move pixels until they reach a bound of the box, and need to know how far. This is solved by sorting the
pixels by where they reach their bounds.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def fill_level(rates: Tensor, caps: Tensor, goals: Tensor) -> Tensor:
    """The smallest t >= 0 with sum_i min(t * rate_i, cap_i) >= goal, for each row.

    Args:
        rates: float32 [N, D], at least 0.
        caps: float32 [N, D], at least 0.
        goals: float [N].

    Returns:
        float64 [N]; infinite where the sum of all caps does not reach the goal, 0 for goals up to 0.
    """
    breakpoints, order = torch.where(rates > 0, caps / rates, math.inf).sort(1)
    rising = rates.gather(1, order).double()
    full = torch.where(rising > 0, caps.gather(1, order), 0).double()
    # At the k-th breakpoint, the entries before it have reached their caps; the others are still growing.
    full_before = F.pad(full, (1, 0)).cumsum(1)
    rising_from = F.pad(rising.flip(1), (1, 0)).cumsum(1).flip(1)
    reached = full_before[:, :-1] + torch.where(breakpoints < math.inf, breakpoints, 0) * rising_from[:, :-1]
    # Rounding errors may make the sums non-monotonic, but the search needs sorted values.
    reached = reached.cummax(1).values
    goals = goals.double()[:, None]
    first = torch.searchsorted(reached, goals)
    level = (goals - full_before.gather(1, first)) / rising_from.gather(1, first)
    level = torch.where(first < rates.shape[1], level, math.inf)
    return torch.where(goals > 0, level.clamp(min=0), 0).squeeze(1)


def onto_l2_ball(points: Tensor, centres: Tensor, radius: float) -> Tensor:
    """The nearest point to each point in the intersection of the L2 ball and [0, 1].

    Args:
        points: float32 [N, C, H, W], any finite values.
        centres: float32 [N, C, H, W] in [0, 1].
        radius: At least 0.
    """
    moves = (points - centres).flatten(1)
    room = torch.where(moves > 0, 1 - centres.flatten(1), centres.flatten(1))
    # The nearest point is the move scaled by one factor and then clipped to the box: its squared length is a sum of
    # caps.
    level = fill_level(moves.square(), room.square(), moves.new_full((len(moves),), radius**2, dtype=torch.float64))
    factor = level.sqrt().clamp(max=1)[:, None]
    return (centres + (moves * factor).to(centres.dtype).view_as(centres)).clamp(0, 1)


def onto_hyperplane(points: Tensor, normals: Tensor, values: Tensor, norm: str) -> Tensor:
    """The shortest move of each point, within [0, 1], onto the hyperplane where a linear function is 0.

    Args:
        points: float32 [N, C, H, W] in [0, 1].
        normals: Gradient of the function, float32 [N, C, H, W].
        values: The function at the points, float32 [N].
        norm: "Linf" or "L2", the norm to minimise.

    Returns:
        The moves, float32 [N, C, H, W]; if the hyperplane does not meet the box, the move to the box's nearest corner;
        zero where the gradient is zero.

    Source: Croce and Hein, "Minimally distorted adversarial examples with a fast adaptive boundary attack",
    arXiv 1907.02044, section 2.
    """
    largest = normals.abs().flatten(1).amax(1)
    scale = torch.where(largest > 0, largest, 1)
    steepness = (normals / scale[:, None, None, None]).flatten(1)
    ways = -values.sign()[:, None] * steepness.sign()
    flat = points.flatten(1)
    room = torch.where(ways > 0, 1 - flat, flat)
    steepness = steepness.abs()
    rates = steepness if norm == "Linf" else steepness.square()
    level = fill_level(rates, steepness * room, values.abs() / scale)[:, None]
    shape = torch.ones_like(steepness) if norm == "Linf" else steepness
    lengths = torch.where(level < math.inf, torch.minimum((shape * level).to(room.dtype), room), room)
    return (ways * lengths).view_as(points)
