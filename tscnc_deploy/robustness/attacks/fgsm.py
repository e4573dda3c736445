"""FGSM: one step of the fast gradient sign method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tscnc_deploy.robustness.attacks.base import Best, gradient, measure
from tscnc_deploy.robustness.losses import cross_entropy
from tscnc_deploy.robustness.noise import Noise
from tscnc_deploy.robustness.threat import Threat
from tscnc_deploy.robustness.victim import Victim


@dataclass(frozen=True)
class FGSM:
    """One step of size epsilon along the sign of the gradient of the cross-entropy, from the clean image.

    Source: Goodfellow, Shlens and Szegedy, "Explaining and harnessing adversarial examples", arXiv 1412.6572.
    """

    name: ClassVar[str] = "fgsm"
    needs_gradient: ClassVar[bool] = True

    def settings(self) -> dict[str, object]:
        """See `Attack.settings`."""
        return {"loss": "cross-entropy"}

    def run(self, victim: Victim, images: Tensor, labels: Tensor, threat: Threat, noise: Noise) -> Tensor:
        """See `Attack.run`; takes no random numbers."""
        low, high = threat.bounds(images)
        loss, broken, slope = gradient(victim, images, labels, cross_entropy)
        best = Best(images, loss, broken)
        points = torch.clamp(images + threat.epsilon * slope.sign(), low, high)
        best.update(points, *measure(victim, points, labels, cross_entropy))
        return best.points
