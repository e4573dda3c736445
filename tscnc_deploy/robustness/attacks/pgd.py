"""PGD: projected gradient ascent with a fixed step size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness.attacks.base import Ball, Best, evaluate_points, gradient, require_count, with_restarts
from tscnc_deploy.robustness.losses import LOSSES
from tscnc_deploy.robustness.noise import Noise
from tscnc_deploy.robustness.threat import Threat
from tscnc_deploy.robustness.victims import Victim


@dataclass(frozen=True)
class PGD:
    """Steps in the direction of steepest ascent of the cross-entropy, from a random point in the ball.

    Attributes:
        steps: Number of gradients per run.
        restarts: Number of runs from random points; later runs only attack images that are still robust.
        step_size: Relative to epsilon; by default 2.5 / steps, which can reach every point of the ball from any other.

    Source: Madry et al., "Towards deep learning models resistant to adversarial attacks", arXiv 1706.06083.
    """

    steps: int
    restarts: int = 1
    step_size: float | None = None

    family: ClassVar[str] = "pgd"
    loss: ClassVar[str] = "cross-entropy"
    needs_gradient: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_count(self.family, "steps", self.steps)
        require_count(self.family, "restarts", self.restarts)
        if self.step_size is not None and not 0 < self.step_size < float("inf"):
            msg = f"{self.family}: step_size = {self.step_size} is not a positive share of epsilon"
            raise InputError(msg)

    @property
    def name(self) -> str:
        """pgd-STEPS, or pgd-STEPSxRESTARTS; subclasses use their own family name."""
        return f"{self.family}-{self.steps}" + (f"x{self.restarts}" if self.restarts > 1 else "")

    def settings(self) -> dict[str, object]:
        """See `Attack.settings`."""
        return {
            "steps": self.steps,
            "restarts": self.restarts,
            "step_size": self._relative_step(),
            "loss": self.loss,
        }

    def run(self, victim: Victim, images: Tensor, labels: Tensor, threat: Threat, noise: Noise) -> Tensor:
        """See `Attack.run`."""
        ball = Ball.around(images, threat)

        def restart(number: int, rows: Tensor) -> Best:
            part = ball.select(rows)
            start = part.random_points(noise.select(rows), number)
            return self._ascend(victim, part, start, labels[rows])

        return with_restarts(restart, self.restarts, images)

    def _relative_step(self) -> float:
        return 2.5 / self.steps if self.step_size is None else self.step_size

    def _ascend(self, victim: Victim, ball: Ball, start: Tensor, labels: Tensor) -> Best:
        objective, step = LOSSES[self.loss], self._relative_step() * ball.threat.epsilon
        loss, misclassified, slope = gradient(victim, start, labels, objective)
        best = Best(start, loss, misclassified)
        points = start
        for _ in range(self.steps - 1):
            points = ball.project(points + step * ball.steepest(slope))
            loss, misclassified, slope = gradient(victim, points, labels, objective)
            best.update(points, loss, misclassified)
        points = ball.project(points + step * ball.steepest(slope))
        best.update(points, *evaluate_points(victim, points, labels, objective))
        return best


@dataclass(frozen=True)
class CW(PGD):
    """PGD on the margin loss of Carlini and Wagner, which does not saturate for large logits.

    Source: Carlini and Wagner, "Towards evaluating the robustness of neural networks", arXiv 1608.04644, loss f6, in
    the projected form of Madry et al., arXiv 1706.06083, without the confidence bound.
    """

    family: ClassVar[str] = "cw"
    loss: ClassVar[str] = "margin"
