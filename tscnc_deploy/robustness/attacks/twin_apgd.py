"""APGD on an engine: guided by its own logits and its twin's gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from tscnc_deploy.robustness.attacks.apgd import apgd_ascent
from tscnc_deploy.robustness.attacks.base import Ball, Best, evaluate_points, require_count, with_restarts
from tscnc_deploy.robustness.attacks.replay import Replay
from tscnc_deploy.robustness.losses import DLR_CLASSES, Loss, cross_entropy, dlr, margin
from tscnc_deploy.robustness.noise import Noise
from tscnc_deploy.robustness.threat import Threat
from tscnc_deploy.robustness.victims import Victim


def _scale_free(logits: Tensor, labels: Tensor) -> Tensor:
    """DLR, or the margin if there are too few classes for it."""
    return (dlr if logits.shape[1] >= DLR_CLASSES else margin)(logits, labels)


_LOSSES: tuple[Loss, ...] = (cross_entropy, _scale_free)
# The first run of the second loss.
_FROM_STARTS = 1


@dataclass(frozen=True, eq=False)
class TwinAPGD:
    """APGD with two losses, cross-entropy and DLR (the margin below 4 classes), one run of each per restart.

    Against an `EngineVictim` the engine's logits decide loss, step halving and best point, and the gradient is the
    twin's. Runs after the first only attack images that are still robust. If `starts` are given, the first DLR run
    starts there, and all other runs at random points: on int8 engines of small networks this changed more labels than
    starting both losses from `starts`, starting both from random points, or only replaying `starts`.

    Attributes:
        steps: Steps per run.
        restarts: Number of runs of each loss.
        starts: Starting points, such as the twin's best examples, float32 [M, C, H, W], one for each image of the
            evaluated set, in the same order; clipped to the ball.

    Source: Croce and Hein, arXiv 2003.01690. Using another model's gradient with the victim's logits is BPDA, Athalye
    et al., arXiv 1802.00420.
    """

    steps: int
    restarts: int = 1
    starts: Tensor | None = None

    needs_gradient: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_count("twin-apgd", "steps", self.steps)
        require_count("twin-apgd", "restarts", self.restarts)
        if self.starts is not None:
            Replay(self.starts)  # checks `starts` as it checks examples

    @property
    def name(self) -> str:
        """twin-apgd-STEPS, or twin-apgd-STEPSxRESTARTS."""
        return f"twin-apgd-{self.steps}" + (f"x{self.restarts}" if self.restarts > 1 else "")

    def settings(self) -> dict[str, object]:
        """See `Attack.settings`."""
        return {
            "steps": self.steps,
            "restarts": self.restarts,
            "losses": ["cross-entropy", "dlr (margin below 4 classes)"],
            "starts": 0 if self.starts is None else len(self.starts),
        }

    def run(self, victim: Victim, images: Tensor, labels: Tensor, threat: Threat, noise: Noise) -> Tensor:
        """See `Attack.run`."""
        ball = Ball.around(images, threat)

        def restart(number: int, rows: Tensor) -> Best:
            part, own = ball.select(rows), noise.select(rows)
            if self.starts is not None and number == _FROM_STARTS:
                start = Replay(self.starts).run(victim, images[rows], labels[rows], threat, own)
            else:
                start = part.random_points(own, number)
            loss = _LOSSES[number % len(_LOSSES)]
            points = apgd_ascent(victim, loss, self.steps, part, start, labels[rows]).points
            # The losses have no common scale, so points are compared by their margin.
            return Best(points, *evaluate_points(victim, points, labels[rows], margin))

        return with_restarts(restart, self.restarts * len(_LOSSES), images)
