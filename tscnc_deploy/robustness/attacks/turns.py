"""Attacking in turns: from other random starts or towards other classes, each time what still stands."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from tscnc_deploy.robustness.attacks.base import Best


class Turn(Protocol):
    """One of several runs of an attack, on some rows of the batch, an int64 index."""

    def __call__(self, number: int, rows: Tensor) -> Best: ...


def in_turns(turn: Turn, count: int, images: Tensor) -> Tensor:
    """Takes `count` turns; every one after the first attacks only what no earlier one broke.

    Args:
        turn: Attacks the rows it is given, with a number from 0 up.
        count: At least 1.
        images: float32 [N, C, H, W], all that are attacked.

    Returns:
        float32 [N, C, H, W], the best point of each image over all turns.
    """
    rows = torch.arange(len(images), device=images.device)
    best = turn(0, rows)
    for number in range(1, count):
        rows = (~best.broken).nonzero().squeeze(1)
        if len(rows) == 0:
            break
        best.put(rows, turn(number, rows))
    return best.points
