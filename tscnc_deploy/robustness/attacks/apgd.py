"""APGD: PGD with momentum that chooses its own step size."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from tscnc_deploy.robustness.attacks.base import Best, Loss, gradient, measure, per_image, require_count
from tscnc_deploy.robustness.attacks.restarts import with_restarts
from tscnc_deploy.robustness.losses import cross_entropy
from tscnc_deploy.robustness.noise import Noise
from tscnc_deploy.robustness.threat import Threat
from tscnc_deploy.robustness.victim import Victim

MOMENTUM = 0.75
RHO = 0.75


@dataclass(frozen=True)
class APGDCE:
    """APGD on the cross-entropy, from a random point of the ball.

    Attributes:
        steps: Steps per run.
        restarts: Runs from other random points, on images that no earlier run broke.

    Source: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
    attacks", arXiv 2003.01690, algorithm 1.
    """

    steps: int
    restarts: int = 1

    needs_gradient: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_count("apgd-ce", "steps", self.steps)
        require_count("apgd-ce", "restarts", self.restarts)

    @property
    def name(self) -> str:
        """apgd-ce-STEPS, or apgd-ce-STEPSxRESTARTS."""
        return f"apgd-ce-{self.steps}" + (f"x{self.restarts}" if self.restarts > 1 else "")

    def settings(self) -> dict[str, object]:
        """See `Attack.settings`."""
        return {
            "steps": self.steps,
            "restarts": self.restarts,
            "loss": "cross-entropy",
            "momentum": MOMENTUM,
            "rho": RHO,
        }

    def run(self, victim: Victim, images: Tensor, labels: Tensor, threat: Threat, noise: Noise) -> Tensor:
        """See `Attack.run`."""
        ascent = partial(ascend, victim, cross_entropy, self.steps, threat.epsilon)
        return with_restarts(ascent, images, labels, threat, noise, self.restarts)


def checkpoints(steps: int) -> list[int]:
    """The steps after which the step size may be halved: ceil(p_j * steps) for the p_j of the paper, without 0.

    In hundredths, p_1 = 22 and each window is 3 shorter than the one before, but at least 6 long.
    """
    # Whole hundredths, because 0.22 + 0.19 in floating point is above 0.41 and would round up to one step too many.
    marks, position, window = [], 22, 22
    while position < 100:
        marks.append(-(-position * steps // 100))
        window = max(window - 3, 6)
        position += window
    return sorted(set(marks))


def ascend(
    victim: Victim,
    loss_function: Loss,
    steps: int,
    epsilon: float,
    start: Tensor,
    low: Tensor,
    high: Tensor,
    labels: Tensor,
) -> Best:
    """One run of APGD.

    Args:
        victim: What is attacked.
        loss_function: Maximised, per image.
        steps: Steps after the start.
        epsilon: Half of the first step size.
        start: float32 [N, C, H, W] between low and high.
        low: Smallest value of each pixel.
        high: Largest value of each pixel.
        labels: int64 [N].
    """
    loss, broken, slope = gradient(victim, start, labels, loss_function)
    best = Best(start, loss, broken)
    # The point of highest loss steers the search, whether or not it is misclassified; `best` is what is returned.
    top_points, top_loss, top_slope = start, loss, slope
    points = previous = start
    step_size = torch.full_like(loss, 2 * epsilon)
    rises = torch.zeros_like(loss)
    loss_at_check = top_loss
    halved_at_check = torch.ones_like(broken)
    marks, last_mark = checkpoints(steps), 0

    for step in range(1, steps + 1):
        ahead = torch.clamp(points + per_image(step_size) * slope.sign(), low, high)
        if step > 1:
            momentum = MOMENTUM * (ahead - points) + (1 - MOMENTUM) * (points - previous)
            ahead = torch.clamp(points + momentum, low, high)
        previous, points, previous_loss = points, ahead, loss
        if step == steps:
            best.update(points, *measure(victim, points, labels, loss_function))
            break
        loss, broken, slope = gradient(victim, points, labels, loss_function)
        best.update(points, loss, broken)

        rises = rises + (loss > previous_loss)
        risen = loss > top_loss
        top_points = torch.where(per_image(risen), points, top_points)
        top_slope = torch.where(per_image(risen), slope, top_slope)
        top_loss = torch.where(risen, loss, top_loss)

        if step in marks:
            oscillates = rises < RHO * (step - last_mark)
            stalls = ~halved_at_check & (top_loss == loss_at_check)
            halve = oscillates | stalls
            step_size = torch.where(halve, step_size / 2, step_size)
            points = torch.where(per_image(halve), top_points, points)
            slope = torch.where(per_image(halve), top_slope, slope)
            loss = torch.where(halve, top_loss, loss)
            loss_at_check, halved_at_check, last_mark = top_loss, halve, step
            rises = torch.zeros_like(rises)
    return best
