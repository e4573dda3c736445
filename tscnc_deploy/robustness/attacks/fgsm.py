"""FGSM: one step of the fast gradient sign method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from tscnc_deploy.robustness.attacks.base import Ball, Best, evaluate_points, gradient
from tscnc_deploy.robustness.losses import cross_entropy
from tscnc_deploy.robustness.noise import Noise
from tscnc_deploy.robustness.threat import Threat
from tscnc_deploy.robustness.victims import Victim


@dataclass(frozen=True)
class FGSM:
    """One step of length epsilon in the direction of steepest ascent of the cross-entropy, from the clean image.

    For Linf that is the sign of the gradient, for L2 the gradient itself.

    Source: Goodfellow, Shlens and Szegedy, "Explaining and harnessing adversarial examples", arXiv 1412.6572.
    """

    name: ClassVar[str] = "fgsm"
    needs_gradient: ClassVar[bool] = True

    def settings(self) -> dict[str, object]:
        """See `Attack.settings`."""
        return {"loss": "cross-entropy"}

    def run(self, victim: Victim, images: Tensor, labels: Tensor, threat: Threat, noise: Noise) -> Tensor:
        """See `Attack.run`; uses no random numbers."""
        ball = Ball.around(images, threat)
        loss, misclassified, slope = gradient(victim, images, labels, cross_entropy)
        best = Best(images, loss, misclassified)
        points = ball.project(images + threat.epsilon * ball.steepest(slope))
        best.update(points, *evaluate_points(victim, points, labels, cross_entropy))
        return best.points
