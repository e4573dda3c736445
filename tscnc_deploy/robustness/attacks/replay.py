"""Replay: adversarial examples from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness.noise import Noise
from tscnc_deploy.robustness.threat import Threat
from tscnc_deploy.robustness.victims import Victim

_ROUNDING = 1e-3


@dataclass(frozen=True, eq=False)
class Replay:
    """Returns the given example of each image, such as the twin's example of highest loss.

    Alone it overstates an engine's robustness: examples close to one model's decision boundary may be classified
    correctly by another.

    Attributes:
        examples: float32 [M, C, H, W], one for each image of the evaluated set, in the same order; clipped to the ball.
    """

    examples: Tensor

    name: ClassVar[str] = "replay"
    needs_gradient: ClassVar[bool] = False

    def __post_init__(self) -> None:
        # One comparison catches both bounds and NaN, which compares false with everything; rounding may exceed [0, 1].
        inside = (self.examples > -_ROUNDING) & (self.examples < 1 + _ROUNDING)
        if not self.examples.is_floating_point() or not inside.all():
            msg = f"replay: the examples must be images in [0, 1], and these {self.examples.dtype} are not, or hold NaN"
            raise InputError(msg)

    def settings(self) -> dict[str, object]:
        """See `Attack.settings`."""
        return {"examples": len(self.examples)}

    def run(self, victim: Victim, images: Tensor, labels: Tensor, threat: Threat, noise: Noise) -> Tensor:
        """See `Attack.run`; `noise.indices` selects the examples of the batch."""
        rows = noise.indices.to(self.examples.device)
        if self.examples.shape[1:] != images.shape[1:] or int(rows.max()) >= len(self.examples):
            msg = (
                f"replay: examples of shape {list(self.examples.shape)} do not match images "
                f"of shape {list(images.shape[1:])} with indices up to {int(rows.max())}"
            )
            raise InputError(msg)
        return threat.project(self.examples[rows].to(images.device, images.dtype), images)
