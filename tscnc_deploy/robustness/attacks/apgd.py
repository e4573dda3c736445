"""APGD: projected gradient ascent with momentum that chooses its own step size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness.attacks.ball import Ball
from tscnc_deploy.robustness.attacks.base import Best, require_count
from tscnc_deploy.robustness.attacks.climb import MOMENTUM, RHO, ascend
from tscnc_deploy.robustness.attacks.targets import TARGETS, likeliest_wrong
from tscnc_deploy.robustness.attacks.turns import in_turns
from tscnc_deploy.robustness.losses import DLR_CLASSES, LOSSES, targeted_dlr
from tscnc_deploy.robustness.noise import Noise
from tscnc_deploy.robustness.threat import Threat
from tscnc_deploy.robustness.victim import Victim


@dataclass(frozen=True)
class APGDCE:
    """APGD on the cross-entropy, from a random point of the ball.

    Attributes:
        steps: Steps per run; what is broken when the step size is reviewed takes no more.
        restarts: Runs from other random points, on images that no earlier run broke.

    Source: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
    attacks", arXiv 2003.01690, algorithm 1.
    """

    steps: int
    restarts: int = 1

    family: ClassVar[str] = "apgd-ce"
    loss: ClassVar[str] = "cross-entropy"
    needs_gradient: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_count(self.family, "steps", self.steps)
        require_count(self.family, "restarts", self.restarts)

    @property
    def name(self) -> str:
        """apgd-ce-STEPS, or apgd-ce-STEPSxRESTARTS; with the family's name in its place."""
        return f"{self.family}-{self.steps}" + (f"x{self.restarts}" if self.restarts > 1 else "")

    def settings(self) -> dict[str, object]:
        """See `Attack.settings`."""
        return {
            "steps": self.steps,
            "restarts": self.restarts,
            "loss": self.loss,
            "momentum": MOMENTUM,
            "rho": RHO,
        }

    def run(self, victim: Victim, images: Tensor, labels: Tensor, threat: Threat, noise: Noise) -> Tensor:
        """See `Attack.run`."""
        ball = Ball.around(images, threat)

        def turn(number: int, rows: Tensor) -> Best:
            part = ball.select(rows)
            start = part.random_points(noise.select(rows), number)
            return ascend(victim, LOSSES[self.loss], self.steps, part, start, labels[rows])

        return in_turns(turn, self.restarts, images)


@dataclass(frozen=True)
class APGDDLR(APGDCE):
    """APGD on the difference of logits ratio, which no scale of the logits flattens; needs 4 classes.

    Source: As `APGDCE`.
    """

    family: ClassVar[str] = "apgd-dlr"
    loss: ClassVar[str] = "dlr"

    def run(self, victim: Victim, images: Tensor, labels: Tensor, threat: Threat, noise: Noise) -> Tensor:
        """See `Attack.run`.

        Raises:
            InputError: Fewer than 4 classes.
        """
        classes = victim.logits(images[:1]).shape[1]
        if classes < DLR_CLASSES:
            msg = (
                f"{self.name}: the DLR loss needs at least {DLR_CLASSES} classes, not {classes}; use apgd-ce or apgd-t"
            )
            raise InputError(msg)
        return super().run(victim, images, labels, threat, noise)


@dataclass(frozen=True)
class APGDT:
    """APGD towards one wrong class after the other, on the targeted difference of logits ratio.

    Attributes:
        steps: Steps per class.
        targets: How many classes, those of largest logit first; all wrong ones where there are fewer. The turns after
            the first attack what still stands.

    Source: As `APGDCE`.
    """

    steps: int
    targets: int = TARGETS

    needs_gradient: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_count("apgd-t", "steps", self.steps)
        require_count("apgd-t", "targets", self.targets)

    @property
    def name(self) -> str:
        """apgd-t-STEPS with the usual number of targets, or apgd-t-STEPSxTARGETS."""
        return f"apgd-t-{self.steps}" + (f"x{self.targets}" if self.targets != TARGETS else "")

    def settings(self) -> dict[str, object]:
        """See `Attack.settings`."""
        return {
            "steps": self.steps,
            "targets": self.targets,
            "loss": "targeted dlr",
            "momentum": MOMENTUM,
            "rho": RHO,
        }

    def run(self, victim: Victim, images: Tensor, labels: Tensor, threat: Threat, noise: Noise) -> Tensor:
        """See `Attack.run`."""
        ball = Ball.around(images, threat)
        targets = likeliest_wrong(victim, images, labels, self.targets)

        def turn(number: int, rows: Tensor) -> Best:
            part = ball.select(rows)
            start = part.random_points(noise.select(rows), number)
            return ascend(victim, targeted_dlr, self.steps, part, start, labels[rows], targets[rows, number])

        return in_turns(turn, targets.shape[1], images)
