"""Square: a random search that uses only logits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from tscnc_deploy.robustness.attacks.base import Ball, Best, evaluate_points, per_image, require_count
from tscnc_deploy.robustness.losses import margin
from tscnc_deploy.robustness.noise import Noise
from tscnc_deploy.robustness.threat import Threat
from tscnc_deploy.robustness.victims import Victim


class Proposal(Protocol):
    """Proposes candidates: points of the ball that differ from the current ones in squares."""

    def fit(self, side: int) -> int:
        """The side length that is used for a requested side length."""
        ...

    def choices(self, images: Tensor, side: int) -> list[int]:
        """Number of possible values of each number of a draw."""
        ...

    def start(self, ball: Ball, noise: Noise) -> Tensor:
        """The starting points, float32 [N, C, H, W]."""
        ...

    def change(self, points: Tensor, ball: Ball, draw: Tensor, side: int) -> Tensor:
        """The points, with one square of each image changed.

        Args:
            points: float32 [N, C, H, W] in the ball.
            ball: The allowed points.
            draw: int64 [N, number of choices].
            side: Side length of the square, in pixels.
        """
        ...


class LinfProposal:
    """Sets a square to +-epsilon per channel, or to the opposite if that changes nothing. Starts from stripes."""

    def fit(self, side: int) -> int:
        """See `Proposal.fit`."""
        return side

    def choices(self, images: Tensor, side: int) -> list[int]:
        """Top, left, and the colour per channel."""
        _, channels, height, width = images.shape
        return [height - side + 1, width - side + 1, *[2] * channels]

    def start(self, ball: Ball, noise: Noise) -> Tensor:
        """Vertical stripes of one pixel."""
        _, channels, _, width = ball.centres.shape
        colours = noise.uniform(0, (channels, 1, width)) < 0.5
        return torch.where(colours, ball.high, ball.low)

    def change(self, points: Tensor, ball: Ball, draw: Tensor, side: int) -> Tensor:
        """See `Proposal.change`."""
        window = _window(points, draw[:, 0], draw[:, 1], side)
        colours = draw[:, 2:, None, None] == 1
        square = torch.where(colours, ball.high, ball.low)
        unchanged = ((square == points) | ~window).flatten(1).all(1)
        square = torch.where(colours ^ per_image(unchanged), ball.high, ball.low)
        return torch.where(window, square, points)


class L2Proposal:
    """Moves the perturbation of one square to another, in the shape of two opposite bumps.

    This preserves its length. Starts from a grid of bumps with random signs.
    """

    def fit(self, side: int) -> int:
        """Squares of at least 3 pixels: smaller ones cannot hold two bumps."""
        return max(side, 3)

    def choices(self, images: Tensor, side: int) -> list[int]:
        """Top and left of the receiving and of the giving square, orientation, and signs per channel."""
        _, channels, height, width = images.shape
        tops, lefts = max(height - side, 0) + 1, max(width - side, 0) + 1
        return [tops, lefts, tops, lefts, 2, *[2] * channels]

    def start(self, ball: Ball, noise: Noise) -> Tensor:
        """A grid of bumps, five along the shorter side."""
        _, channels, height, width = ball.centres.shape
        side = max(min(height, width) // 5, 1)
        down, along = -(-height // side), -(-width // side)
        bumps = two_bumps(side, side, ball.centres.device).repeat(down, along)[:height, :width]
        signs = 1 - 2 * (noise.uniform(0, (channels, down, along)) < 0.5).float()
        signs = signs.repeat_interleave(side, 2).repeat_interleave(side, 3)[:, :, :height, :width]
        return ball.project(ball.centres + ball.threat.epsilon * ball.steepest(bumps * signs))

    def change(self, points: Tensor, ball: Ball, draw: Tensor, side: int) -> Tensor:
        """See `Proposal.change`."""
        channels, height, width = points.shape[1:]
        moves = points - ball.centres
        gains = _window(points, draw[:, 0], draw[:, 1], side)
        gives = _window(points, draw[:, 2], draw[:, 3], side)
        energy = moves.square()
        unused = (ball.threat.inner_radius(points) ** 2 - energy.sum((1, 2, 3))).clamp(min=0)
        taken = (energy * (gains | gives)).sum((2, 3))
        length = (taken + unused[:, None] / channels).sqrt()

        tall, wide = min(side, height), min(side, width)
        lying, standing = two_bumps(tall, wide, points.device), two_bumps(wide, tall, points.device).T
        bumps = torch.where(draw[:, 4, None, None] == 1, lying, standing)
        placed = _place(bumps, draw[:, 0], draw[:, 1], height, width)
        signs = (2 * draw[:, 5:] - 1)[:, :, None, None]
        shape = _unit(signs * placed * gains + _unit(moves * gains))
        changed = torch.where(gains, shape * length[:, :, None, None], torch.where(gives, 0, moves))
        return (ball.centres + changed).clamp(0, 1)


def two_bumps(height: int, width: int, device: torch.device) -> Tensor:
    """One bump upwards above one downwards, float32 [height, width] of length 1."""
    upper, lower = _bump(height // 2, width), _bump(height - height // 2, width)
    bumps = torch.cat([upper, -lower])
    return (bumps / bumps.norm()).to(device)


def _bump(height: int, width: int) -> Tensor:
    """Highest in the centre; the n-th ring around it is the sum of 1 / k^2 over all k > n up to half the width."""
    rows, columns = torch.arange(height) - height // 2, torch.arange(width) - width // 2
    ring = torch.maximum(rows.abs()[:, None], columns.abs())
    terms = 1 / torch.arange(1, max(height, width) // 2 + 2).square()
    return terms.flip(0).cumsum(0).flip(0)[ring]


def _place(patterns: Tensor, top: Tensor, left: Tensor, height: int, width: int) -> Tensor:
    """Patterns [N, h, w] placed in images, [N, 1, H, W]; outside of a pattern its edges are repeated."""
    rows = (torch.arange(height, device=top.device) - top[:, None]).clamp(0, patterns.shape[1] - 1)
    columns = (torch.arange(width, device=top.device) - left[:, None]).clamp(0, patterns.shape[2] - 1)
    images = torch.arange(len(top), device=top.device)
    return patterns[images[:, None, None], rows[:, :, None], columns[:, None, :]][:, None]


def _unit(moves: Tensor) -> Tensor:
    """Scales each channel to length 1; zero stays zero."""
    length = torch.linalg.vector_norm(moves, dim=(2, 3), keepdim=True)
    return moves / torch.where(length > 0, length, 1)


def _window(points: Tensor, top: Tensor, left: Tensor, side: int) -> Tensor:
    """bool [N, 1, H, W], true inside a square of each image."""
    rows, columns = _span(top, side, points.shape[2]), _span(left, side, points.shape[3])
    return rows[:, None, :, None] & columns[:, None, None, :]


def _span(first: Tensor, side: int, length: int) -> Tensor:
    """bool [N, length], true at the `side` positions from `first` on."""
    offset = torch.arange(length, device=first.device) - first[:, None]
    return (offset >= 0) & (offset < side)


P_INIT = 0.8
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
# Dropping misclassified images synchronises with the device, so it is not done after every query.
_DROP_EVERY = 10


@dataclass(frozen=True)
class Square:
    """Changes random squares of the image and keeps changes that increase the margin loss.

    For Linf a square is set to +-epsilon per channel, see `LinfProposal`; for L2 the perturbation of another square is
    moved into it, see `L2Proposal`.

    Attributes:
        queries: Maximum number of queries per image; a misclassified image gets at most 10 more.

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
        proposal: Proposal = LinfProposal() if threat.norm == "Linf" else L2Proposal()
        sides = [proposal.fit(square_side(query, self.queries, height, width)) for query in range(self.queries)]
        # Moved to the device at once: one transfer instead of one per query.
        plan = torch.tensor([proposal.choices(images, side) for side in sides], device=images.device)
        ball = Ball.around(images, threat)

        best = _judge(victim, proposal.start(ball, noise), labels)
        found = best.points.clone()
        rows = torch.arange(len(images), device=images.device)
        for query in range(1, self.queries):
            if query % _DROP_EVERY == 0:
                found[rows] = best.points
                kept = (~best.misclassified).nonzero().squeeze(1)
                if len(kept) == 0:
                    break
                if len(kept) < len(rows):
                    rows, labels, noise = rows[kept], labels[kept], noise.select(kept)
                    ball, best = ball.select(kept), best.select(kept)
            draw = noise.integers(query, plan[query])
            candidate = proposal.change(best.points, ball, draw, sides[query])
            judged = _judge(victim, candidate, labels)
            best.update(judged.points, judged.loss, judged.misclassified)
        found[rows] = best.points
        return found


def square_side(query: int, queries: int, height: int, width: int) -> int:
    """Side of the square at a query, in pixels: its area is a share p of the image, which is halved nine times."""
    share = P_INIT / 2 ** sum(query * 10_000 // queries > mark for mark in _HALVINGS)
    return max(1, min(round(math.sqrt(share * height * width)), height, width))


def _judge(victim: Victim, points: Tensor, labels: Tensor) -> Best:
    return Best(points, *evaluate_points(victim, points, labels, margin))
