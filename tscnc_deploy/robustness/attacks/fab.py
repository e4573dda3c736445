"""FAB: looks for the nearest misclassified point, and so for one in the ball."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tscnc_deploy.robustness.attacks.ball import Ball
from tscnc_deploy.robustness.attacks.base import Best, require_count
from tscnc_deploy.robustness.attacks.boundary import approach
from tscnc_deploy.robustness.attacks.targets import TARGETS, likeliest_wrong
from tscnc_deploy.robustness.attacks.turns import in_turns
from tscnc_deploy.robustness.noise import Noise
from tscnc_deploy.robustness.threat import Threat
from tscnc_deploy.robustness.victim import Victim


@dataclass(frozen=True)
class FAB:
    """The boundary's nearest side is approached, whichever class is behind it; costs a gradient per class and step.

    Attributes:
        steps: Steps per run.
        restarts: Runs, on what still stands; the first from the clean image, others from halfway to a random point.

    Source: Croce and Hein, "Minimally distorted adversarial examples with a fast adaptive boundary attack",
    arXiv 1907.02044, algorithm 1; see `approach`.
    """

    steps: int
    restarts: int = 1

    needs_gradient: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_count("fab", "steps", self.steps)
        require_count("fab", "restarts", self.restarts)

    @property
    def name(self) -> str:
        """fab-STEPS, or fab-STEPSxRESTARTS."""
        return f"fab-{self.steps}" + (f"x{self.restarts}" if self.restarts > 1 else "")

    def settings(self) -> dict[str, object]:
        """See `Attack.settings`."""
        return {"steps": self.steps, "restarts": self.restarts}

    def run(self, victim: Victim, images: Tensor, labels: Tensor, threat: Threat, noise: Noise) -> Tensor:
        """See `Attack.run`."""
        ball = Ball.around(images, threat)

        def turn(number: int, rows: Tensor) -> Best:
            part = ball.select(rows)
            start = part.centres
            if number > 0:
                start = torch.lerp(start, part.random_points(noise.select(rows), number), 0.5)
            return approach(victim, self.steps, part, start, labels[rows]).best

        return in_turns(turn, self.restarts, images)


@dataclass(frozen=True)
class FABT:
    """The boundaries to one wrong class after the other are approached, from the clean image.

    Attributes:
        steps: Steps per class.
        targets: How many classes, those of largest logit first; all wrong ones where there are fewer. The turns after
            the first attack what still stands.

    Source: As `FAB`, in its targeted form of arXiv 2003.01690.
    """

    steps: int
    targets: int = TARGETS

    needs_gradient: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_count("fab-t", "steps", self.steps)
        require_count("fab-t", "targets", self.targets)

    @property
    def name(self) -> str:
        """fab-t-STEPS with the usual number of targets, or fab-t-STEPSxTARGETS."""
        return f"fab-t-{self.steps}" + (f"x{self.targets}" if self.targets != TARGETS else "")

    def settings(self) -> dict[str, object]:
        """See `Attack.settings`."""
        return {"steps": self.steps, "targets": self.targets}

    def run(self, victim: Victim, images: Tensor, labels: Tensor, threat: Threat, noise: Noise) -> Tensor:
        """See `Attack.run`; takes no random numbers."""
        ball = Ball.around(images, threat)
        targets = likeliest_wrong(victim, images, labels, self.targets)

        def turn(number: int, rows: Tensor) -> Best:
            aims = targets[rows, number]
            part = ball.select(rows)
            return approach(victim, self.steps, part, images[rows], labels[rows], aims).best

        return in_turns(turn, targets.shape[1], images)
