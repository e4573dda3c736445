"""PGD: projected gradient descent on the negative loss."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness.attacks.base import Best, gradient, measure, require_count
from tscnc_deploy.robustness.attacks.restarts import with_restarts
from tscnc_deploy.robustness.losses import cross_entropy
from tscnc_deploy.robustness.noise import Noise
from tscnc_deploy.robustness.threat import Threat
from tscnc_deploy.robustness.victim import Victim


@dataclass(frozen=True)
class PGD:
    """Steps along the sign of the gradient of the cross-entropy, from a random point of the ball.

    Attributes:
        steps: Gradients per run.
        restarts: Runs from other random points, on images that no earlier run broke.
        step_size: As a share of epsilon; by default 2.5 / steps, which reaches every point of the ball from any other.

    Source: Madry et al., "Towards deep learning models resistant to adversarial attacks", arXiv 1706.06083.
    """

    steps: int
    restarts: int = 1
    step_size: float | None = None

    needs_gradient: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_count("pgd", "steps", self.steps)
        require_count("pgd", "restarts", self.restarts)
        if self.step_size is not None and not 0 < self.step_size < float("inf"):
            msg = f"pgd: step_size = {self.step_size} is not a share of epsilon above 0"
            raise InputError(msg)

    @property
    def name(self) -> str:
        """pgd-STEPS, or pgd-STEPSxRESTARTS."""
        return f"pgd-{self.steps}" + (f"x{self.restarts}" if self.restarts > 1 else "")

    def settings(self) -> dict[str, object]:
        """See `Attack.settings`."""
        return {
            "steps": self.steps,
            "restarts": self.restarts,
            "step_size": self._relative_step(),
            "loss": "cross-entropy",
        }

    def run(self, victim: Victim, images: Tensor, labels: Tensor, threat: Threat, noise: Noise) -> Tensor:
        """See `Attack.run`."""
        ascent = partial(self._ascend, victim, self._relative_step() * threat.epsilon)
        return with_restarts(ascent, images, labels, threat, noise, self.restarts)

    def _relative_step(self) -> float:
        return 2.5 / self.steps if self.step_size is None else self.step_size

    def _ascend(self, victim: Victim, step: float, start: Tensor, low: Tensor, high: Tensor, labels: Tensor) -> Best:
        loss, broken, slope = gradient(victim, start, labels, cross_entropy)
        best = Best(start, loss, broken)
        points = start
        for _ in range(self.steps - 1):
            points = torch.clamp(points + step * slope.sign(), low, high)
            loss, broken, slope = gradient(victim, points, labels, cross_entropy)
            best.update(points, loss, broken)
        points = torch.clamp(points + step * slope.sign(), low, high)
        best.update(points, *measure(victim, points, labels, cross_entropy))
        return best
