"""Square: a random search on the logits alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tscnc_deploy.robustness.attacks.base import Best, measure, per_image, require_count
from tscnc_deploy.robustness.losses import margin
from tscnc_deploy.robustness.noise import Noise
from tscnc_deploy.robustness.threat import Threat
from tscnc_deploy.robustness.victim import Victim

P_INIT = 0.8
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
# Dropping the broken images waits for the device, so it is not done after every query.
_DROP_EVERY = 10


@dataclass(frozen=True)
class Square:
    """Recolours random squares of the image with +-epsilon and keeps what raises the margin loss.

    Starts from vertical stripes. A square that would change nothing gets the opposite colours instead.

    Attributes:
        queries: Largest number of logits asked for per image; a broken image is asked for at most 10 more times.

    Source: Andriushchenko et al., "Square attack: a query-efficient black-box adversarial attack via random search",
    arXiv 1912.00049 (Linf), with the schedule of the square's size rescaled to the number of queries.
    """

    queries: int

    needs_gradient: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_count("square", "queries", self.queries)

    @property
    def name(self) -> str:
        """square-QUERIES."""
        return f"square-{self.queries}"

    def settings(self) -> dict[str, object]:
        """See `Attack.settings`."""
        return {"queries": self.queries, "loss": "margin", "p_init": P_INIT}

    def run(self, victim: Victim, images: Tensor, labels: Tensor, threat: Threat, noise: Noise) -> Tensor:
        """See `Attack.run`."""
        _, channels, height, width = images.shape
        sides = [square_side(query, self.queries, height, width) for query in range(self.queries)]
        plan = [[height - side + 1, width - side + 1, *[2] * channels] for side in sides]
        sizes = torch.tensor(plan, device=images.device)
        low, high = threat.bounds(images)

        colours = noise.uniform(0, (channels, 1, width)) < 0.5
        best = _judge(victim, torch.where(colours, high, low), labels)
        found = best.points.clone()
        rows = torch.arange(len(images), device=images.device)
        for query in range(1, self.queries):
            if query % _DROP_EVERY == 0:
                found[rows] = best.points
                kept = (~best.broken).nonzero().squeeze(1)
                rows, low, high, labels, noise = rows[kept], low[kept], high[kept], labels[kept], noise.select(kept)
                best = Best(best.points[kept], best.loss[kept], best.broken[kept])
                if len(kept) == 0:
                    break
            draw = noise.integers(query, sizes[query])
            candidate = _recolour(best.points, low, high, draw, sides[query])
            judged = _judge(victim, candidate, labels)
            best.update(judged.points, judged.loss, judged.broken)
        found[rows] = best.points
        return found


def square_side(query: int, queries: int, height: int, width: int) -> int:
    """Side in pixels of the square at a query: its area is a share p of the image, halved nine times on the way."""
    share = P_INIT / 2 ** sum(query * 10_000 // queries > mark for mark in _HALVINGS)
    return max(1, min(round(math.sqrt(share * height * width)), height, width))


def _recolour(points: Tensor, low: Tensor, high: Tensor, draw: Tensor, side: int) -> Tensor:
    """Points with one square per image set to a bound per channel; draw is [N, 2 + C]: top, left, colours."""
    inside_rows = _span(draw[:, 0], side, points.shape[2])
    inside_columns = _span(draw[:, 1], side, points.shape[3])
    window = inside_rows[:, None, :, None] & inside_columns[:, None, None, :]
    colours = draw[:, 2:, None, None] == 1
    square = torch.where(colours, high, low)
    unchanged = ((square == points) | ~window).flatten(1).all(1)
    square = torch.where(colours ^ per_image(unchanged), high, low)
    return torch.where(window, square, points)


def _span(first: Tensor, side: int, length: int) -> Tensor:
    """bool [N, length]: the `side` places from `first` on."""
    offset = torch.arange(length, device=first.device) - first[:, None]
    return (offset >= 0) & (offset < side)


def _judge(victim: Victim, points: Tensor, labels: Tensor) -> Best:
    return Best(points, *measure(victim, points, labels, margin))
