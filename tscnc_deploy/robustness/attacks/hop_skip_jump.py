"""HopSkipJump: a search that uses only the predicted class."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tscnc_deploy.robustness.attacks.base import Ball, per_image, require_count
from tscnc_deploy.robustness.losses import is_misclassified
from tscnc_deploy.robustness.noise import Noise
from tscnc_deploy.robustness.threat import Threat
from tscnc_deploy.robustness.victims import Victim

STARTS = 50
FIRST_PROBES = 100
# Length of a probe, relative to the distance to the image.
REACH = 0.2
_HALVINGS = 10
# Queries reserved for the jump after the probes and for the return to the boundary.
_RESERVE = 20


@dataclass(frozen=True)
class HopSkipJump:
    """Walks along the decision boundary towards the image, using only predicted classes.

    From a distant misclassified image it moves to the boundary, estimates from probes in all directions which direction
    leads away from the class, jumps that way, and returns to the boundary closer to the image, until a misclassified
    point is in the ball.

    Differences from the paper: the search ends at the ball instead of the nearest point; it starts from coarse as well
    as fine noise, because some classifiers assign all fine noise to one class; and the length of probes is 1/5 of the
    distance: the paper's length falls with the number of pixels, and the rounding of an int8 engine hides the effect
    of such probes. On the int8 engine of a small network, longer probes succeeded on more images at nearly every number
    of queries.

    Attributes:
        queries: Maximum number of predictions per image.

    Source: Chen, Jordan and Wainwright, "HopSkipJumpAttack: a query-efficient decision-based attack",
    arXiv 1904.02144.
    """

    queries: int

    needs_gradient: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_count("hopskipjump", "queries", self.queries)

    @property
    def name(self) -> str:
        """hopskipjump-QUERIES."""
        return f"hopskipjump-{self.queries}"

    def settings(self) -> dict[str, object]:
        """See `Attack.settings`."""
        return {"queries": self.queries, "starts": STARTS, "first_probes": FIRST_PROBES, "reach": REACH}

    def run(self, victim: Victim, images: Tensor, labels: Tensor, threat: Threat, noise: Noise) -> Tensor:
        """See `Attack.run`; the loss is unknown, so the misclassified point nearest to the image is returned."""
        search = _Search(victim, Ball.around(images, threat), labels, noise, self.queries)
        found = images.clone()
        rows = search.keep(search.start())
        jumps, counter = 0, STARTS
        while len(rows):
            inside = search.approach()
            found[rows] = search.ball.project(search.points)
            rows = rows[search.keep(~inside & (search.left > _RESERVE))]
            if len(rows):
                jumps += 1
                probes = int(FIRST_PROBES * math.sqrt(jumps))
                search.jump(search.direction(probes, counter), jumps)
                counter += probes
        return found


class _Search:
    """The state for a batch; once started, `points` [N, C, H, W] are misclassified points anywhere in [0, 1]."""

    def __init__(self, victim: Victim, ball: Ball, labels: Tensor, noise: Noise, queries: int) -> None:
        self.victim = victim
        self.ball = ball
        self.labels = labels
        self.noise = noise
        self.points = ball.centres
        self.left = torch.full_like(labels, queries)
        self.room = len(labels)

    def keep(self, chosen: Tensor) -> Tensor:
        """Keeps only the chosen images, bool [N]; returns their rows, int64."""
        rows = chosen.nonzero().squeeze(1)
        self.ball, self.noise = self.ball.select(rows), self.noise.select(rows)
        self.labels, self.points, self.left = self.labels[rows], self.points[rows], self.left[rows]
        return rows

    def start(self) -> Tensor:
        """Searches for a misclassified image in noise; returns where there is one, bool [N]."""
        started = torch.zeros_like(self.labels, dtype=torch.bool)
        for attempt in range(STARTS):
            if started.all():
                break
            candidate = self._noise_image(attempt)
            hit = self._ask(candidate, ~started)
            self.points = torch.where(per_image(hit), candidate, self.points)
            started = started | hit
        return started

    def approach(self) -> Tensor:
        """Moves towards the image up to the boundary, or into the ball; returns where that was possible, bool [N]."""
        everywhere = torch.ones_like(self.labels, dtype=torch.bool)
        nearest = self.ball.project(self.points)
        inside = self._ask(nearest, everywhere)
        high = self._distance()
        low = torch.full_like(high, self.ball.threat.epsilon)
        # A probe changes the logits by about reach * |gradient| / sqrt(pixels): the boundary must be closer than that.
        tolerance = REACH / (5 * math.sqrt(nearest[0].numel()))
        searched = ~inside
        while (searched := searched & (self.left > 0) & (high - low > tolerance * high)).any():
            middle = (low + high) / 2
            candidate = self._on_the_way(middle)
            hit = self._ask(candidate, searched)
            self.points = torch.where(per_image(hit), candidate, self.points)
            high = torch.where(hit, middle, high)
            low = torch.where(searched & ~hit, middle, low)
        self.points = torch.where(per_image(inside), nearest, self.points)
        return inside

    def direction(self, probes: int, counter: int) -> Tensor:
        """Estimates the direction of length 1 that leads away from the class, from probes around the points."""
        reach = per_image(REACH * self._distance())
        shape = tuple(self.points.shape[1:])
        share = (self.left - _RESERVE).clamp(max=probes)
        # In float64 the sums do not depend on how the probes are batched.
        plain = torch.zeros_like(self.points, dtype=torch.float64)
        signed, balance = plain.clone(), torch.zeros_like(plain[:, 0, 0, 0])
        per_call = max(1, self.room // len(self.labels))
        for first in range(0, probes, per_call):
            parts = [(share > probe).nonzero().squeeze(1) for probe in range(first, min(first + per_call, probes))]
            draws = [self.noise.select(part).uniform(counter + first + i, shape) for i, part in enumerate(parts)]
            rows = torch.cat(parts)
            if len(rows) == 0:
                break
            moved = self.points[rows] + reach[rows] * self.ball.steepest(torch.cat(draws) - 0.5)
            moves = moved.clamp(0, 1) - self.points[rows]
            wrong = is_misclassified(self.victim.logits(self.points[rows] + moves), self.labels[rows])
            sign = 2.0 * wrong.double() - 1
            plain.index_add_(0, rows, moves.double())
            signed.index_add_(0, rows, per_image(sign) * moves)
            balance.index_add_(0, rows, sign)
        self.left = self.left - share
        mean = balance / share
        # If all answers are the same, subtracting the mean would leave nothing.
        offset = torch.where(mean.abs() == 1, 0, mean)
        return self.ball.steepest((signed - per_image(offset) * plain).float())

    def jump(self, direction: Tensor, number: int) -> None:
        """Moves in that direction by distance / sqrt(number), halved until the points are misclassified."""
        size = self._distance() / math.sqrt(number)
        falls = torch.ones_like(self.labels, dtype=torch.bool)
        for _ in range(_HALVINGS):
            candidate = (self.points + per_image(size) * direction).clamp(0, 1)
            hit = self._ask(candidate, falls)
            self.points = torch.where(per_image(hit), candidate, self.points)
            falls = falls & ~hit
            if not falls.any():
                break
            size = size / 2

    def _ask(self, points: Tensor, asked: Tensor) -> Tensor:
        """bool [N]: misclassified, for images that are asked and have queries left."""
        rows = (asked & (self.left > 0)).nonzero().squeeze(1)
        answers = torch.zeros_like(asked)
        if len(rows):
            answers[rows] = is_misclassified(self.victim.logits(points[rows]), self.labels[rows])
            self.left = self.left.index_add(0, rows, -torch.ones_like(rows))
        return answers

    def _distance(self) -> Tensor:
        return self.ball.threat.length(self.points - self.ball.centres)

    def _on_the_way(self, distance: Tensor) -> Tensor:
        """Moves the points to a distance from the images: clipped for Linf, along the straight line for L2."""
        moves, most = self.points - self.ball.centres, per_image(distance)
        if self.ball.threat.norm == "Linf":
            moves = torch.clamp(moves, -most, most)
        else:
            moves = moves * (most / per_image(self._distance())).clamp(max=1)
        return (self.ball.centres + moves).clamp(0, 1)

    def _noise_image(self, attempt: int) -> Tensor:
        """Images of random cells with sides of 1, 2, 4, ... pixels in turn, up to a single colour."""
        channels, height, width = self.points.shape[1:]
        cell = 2 ** (attempt % (1 + math.ceil(math.log2(max(height, width)))))
        cells = self.noise.uniform(attempt, (channels, -(-height // cell), -(-width // cell)))
        return cells.repeat_interleave(cell, 2).repeat_interleave(cell, 3)[..., :height, :width]
