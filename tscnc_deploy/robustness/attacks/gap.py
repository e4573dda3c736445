"""Gap: searches between the decision boundaries of an engine and its twin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness.attacks.apgd import apgd_ascent
from tscnc_deploy.robustness.attacks.base import Ball, require_count
from tscnc_deploy.robustness.losses import margin
from tscnc_deploy.robustness.noise import Noise
from tscnc_deploy.robustness.pair import PairVictim
from tscnc_deploy.robustness.threat import Threat
from tscnc_deploy.robustness.victims import EngineVictim, Victim


@dataclass(frozen=True)
class Gap:
    """APGD towards points that the engine misclassifies and its twin does not: errors introduced by compilation alone.

    The loss is the minimum of the engine's margin loss and the twin's negated margin loss. As in every attack, a point
    counts if the engine misclassifies it.

    Attributes:
        steps: Steps of the single run, from a random point.
    """

    steps: int

    needs_gradient: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_count("gap", "steps", self.steps)

    @property
    def name(self) -> str:
        """gap-STEPS."""
        return f"gap-{self.steps}"

    def settings(self) -> dict[str, object]:
        """See `Attack.settings`."""
        return {"steps": self.steps, "loss": "engine wrong, twin right"}

    def run(self, victim: Victim, images: Tensor, labels: Tensor, threat: Threat, noise: Noise) -> Tensor:
        """See `Attack.run`.

        Raises:
            InputError: The victim is not an engine with its twin.
        """
        if not isinstance(victim, EngineVictim):
            msg = f"attack {self.name!r} needs an engine with its twin (EngineVictim), not {type(victim).__name__}"
            raise InputError(msg)
        ball = Ball.around(images, threat)
        pair = PairVictim(victim, _joined)
        return apgd_ascent(pair, _gap, self.steps, ball, ball.random_points(noise, 0), labels).points


def _joined(engine: Tensor, twin: Tensor) -> Tensor:
    """The engine's logits followed by the twin's, shifted below the engine's, [N, 2K].

    The largest logit is therefore the engine's, which decides whether a point counts; margins are unaffected by a
    shift.
    """
    shift = twin.detach().amax(1, keepdim=True) - engine.detach().amin(1, keepdim=True) + 1
    return torch.cat([engine, twin - shift], 1)


def _gap(logits: Tensor, labels: Tensor) -> Tensor:
    engine, twin = logits.chunk(2, dim=1)
    return torch.minimum(margin(engine, labels), -margin(twin, labels))
