"""Square: a random search on the logits alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tscnc_deploy.robustness.attacks.ball import Ball
from tscnc_deploy.robustness.attacks.base import Best, measure, require_count
from tscnc_deploy.robustness.attacks.painters import L2Painter, LinfPainter, Painter
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
    """Changes random squares of the image and keeps what raises the margin loss.

    For Linf a square is recoloured with +-epsilon per channel, see `LinfPainter`; for L2 perturbation is moved into it
    from another one, see `L2Painter`.

    Attributes:
        queries: Largest number of logits asked for per image; a broken image is asked for at most 10 more times.

    Source: Andriushchenko et al., "Square attack: a query-efficient black-box adversarial attack via random search",
    arXiv 1912.00049, with the schedule of the square's size rescaled to the number of queries.
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
        height, width = images.shape[2:]
        painter: Painter = LinfPainter() if threat.norm == "Linf" else L2Painter()
        sides = [painter.fit(square_side(query, self.queries, height, width)) for query in range(self.queries)]
        # On the device at once: one transfer instead of one per query.
        plan = torch.tensor([painter.choices(images, side) for side in sides], device=images.device)
        ball = Ball.around(images, threat)

        best = _judge(victim, painter.start(ball, noise), labels)
        found = best.points.clone()
        rows = torch.arange(len(images), device=images.device)
        for query in range(1, self.queries):
            if query % _DROP_EVERY == 0:
                found[rows] = best.points
                kept = (~best.broken).nonzero().squeeze(1)
                if len(kept) == 0:
                    break
                if len(kept) < len(rows):
                    rows, labels, noise = rows[kept], labels[kept], noise.select(kept)
                    ball, best = ball.select(kept), best.select(kept)
            draw = noise.integers(query, plan[query])
            candidate = painter.change(best.points, ball, draw, sides[query])
            judged = _judge(victim, candidate, labels)
            best.update(judged.points, judged.loss, judged.broken)
        found[rows] = best.points
        return found


def square_side(query: int, queries: int, height: int, width: int) -> int:
    """Side in pixels of the square at a query: its area is a share p of the image, halved nine times on the way."""
    share = P_INIT / 2 ** sum(query * 10_000 // queries > mark for mark in _HALVINGS)
    return max(1, min(round(math.sqrt(share * height * width)), height, width))


def _judge(victim: Victim, points: Tensor, labels: Tensor) -> Best:
    return Best(points, *measure(victim, points, labels, margin))
