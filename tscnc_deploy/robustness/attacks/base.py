"""What an attack is, and what all of them share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness.losses import Loss, misclassified
from tscnc_deploy.robustness.noise import Noise
from tscnc_deploy.robustness.threat import Threat
from tscnc_deploy.robustness.victim import Victim


class Attack(Protocol):
    """A way to look for misclassified points in the ball around each image."""

    @property
    def name(self) -> str:
        """Short and unique with its settings, such as "pgd-20x5"."""
        ...

    @property
    def needs_gradient(self) -> bool:
        """Whether the victim must be differentiable."""
        ...

    def settings(self) -> dict[str, object]:
        """Everything that determines the attack beside victim, threat and seed; JSON-able."""
        ...

    def run(self, victim: Victim, images: Tensor, labels: Tensor, threat: Threat, noise: Noise) -> Tensor:
        """Attacks a batch.

        Args:
            victim: What is attacked.
            images: float32 [N, C, H, W] in [0, 1] on the victim's device.
            labels: int64 [N] on the same device.
            threat: How far each image may be moved.
            noise: Randomness of the N images, on the same device.

        Returns:
            Like images, inside ball and [0, 1]: per image the point of highest loss that was found, among the
            misclassified ones where there are any.

        Raises:
            InputError: The attack needs a gradient that the victim does not have.
        """
        ...


@dataclass
class Best:
    """Per image, the best point so far: a misclassified one before any other, then the one of highest loss.

    Attributes:
        points: float32 [N, C, H, W].
        loss: float32 [N].
        broken: bool [N], whether the point is misclassified.
    """

    points: Tensor
    loss: Tensor
    broken: Tensor

    def update(self, points: Tensor, loss: Tensor, broken: Tensor) -> None:
        """Takes over the points that are better, without waiting for the device."""
        better = (broken & ~self.broken) | ((broken == self.broken) & (loss > self.loss))
        self.points = torch.where(per_image(better), points, self.points)
        self.loss = torch.where(better, loss, self.loss)
        self.broken = self.broken | broken

    def select(self, rows: Tensor) -> Best:
        """A copy of some rows, an int64 or bool index."""
        return Best(self.points[rows], self.loss[rows], self.broken[rows])

    def put(self, rows: Tensor, other: Best) -> None:
        """Replaces the given rows (an int64 index) in place where the other's are better."""
        mine = self.select(rows)
        mine.update(other.points, other.loss, other.broken)
        self.points[rows], self.loss[rows], self.broken[rows] = mine.points, mine.loss, mine.broken


def per_image(values: Tensor) -> Tensor:
    """[N] as [N, 1, 1, 1], to be combined with images."""
    return values[:, None, None, None]


def gradient(victim: Victim, points: Tensor, labels: Tensor, loss: Loss) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, whether misclassified, and the gradient of the loss with respect to the points.

    Args:
        victim: What is attacked.
        points: float32 [N, C, H, W].
        labels: int64 [N].
        loss: Maps logits and labels to a loss per image; the gradient is that of the sum.

    Returns:
        float32 [N], bool [N] and float32 [N, C, H, W]; the gradient is zero where the logits do not depend on the
        points or hide it.
    """
    points = points.detach().requires_grad_()
    with torch.enable_grad():
        logits = victim.differentiable(points)
        losses = loss(logits, labels)
        if losses.requires_grad:
            (slope,) = torch.autograd.grad(losses.sum(), points, materialize_grads=True)
        else:
            slope = torch.zeros_like(points)
    return losses.detach(), misclassified(logits.detach(), labels), slope


def measure(victim: Victim, points: Tensor, labels: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
    """Loss, float32 [N], and whether misclassified, bool [N], without a gradient; see `gradient`."""
    logits = victim.logits(points)
    return loss(logits, labels), misclassified(logits, labels)


def require_count(attack: str, key: str, value: int) -> None:
    """Refuses a number of steps, restarts, targets or queries that is not a whole number from 1 up.

    Raises:
        InputError: Names the attack, the key and the value.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        msg = f"{attack}: {key} = {value!r} is not a whole number from 1 up"
        raise InputError(msg)
