"""What an attack is, and what all of them share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness.losses import Loss, is_misclassified
from tscnc_deploy.robustness.noise import Noise
from tscnc_deploy.robustness.threat import Threat
from tscnc_deploy.robustness.victims import Victim


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
        misclassified: bool [N], whether the point is misclassified.
    """

    points: Tensor
    loss: Tensor
    misclassified: Tensor

    def update(self, points: Tensor, loss: Tensor, misclassified: Tensor) -> None:
        """Takes over the points that are better, without waiting for the device."""
        better = (misclassified & ~self.misclassified) | ((misclassified == self.misclassified) & (loss > self.loss))
        self.points = torch.where(per_image(better), points, self.points)
        self.loss = torch.where(better, loss, self.loss)
        self.misclassified = self.misclassified | misclassified

    def select(self, rows: Tensor) -> Best:
        """A copy of some rows, an int64 or bool index."""
        return Best(self.points[rows], self.loss[rows], self.misclassified[rows])

    def put(self, rows: Tensor, other: Best) -> None:
        """Replaces the given rows (an int64 index) in place where the other's are better."""
        mine = self.select(rows)
        mine.update(other.points, other.loss, other.misclassified)
        self.points[rows], self.loss[rows], self.misclassified[rows] = mine.points, mine.loss, mine.misclassified


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
    return losses.detach(), is_misclassified(logits.detach(), labels), slope


def evaluate_points(victim: Victim, points: Tensor, labels: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
    """Loss, float32 [N], and whether misclassified, bool [N], without a gradient; see `gradient`."""
    logits = victim.logits(points)
    return loss(logits, labels), is_misclassified(logits, labels)


def require_count(attack: str, key: str, value: int) -> None:
    """Refuses a number of steps, restarts, targets or queries that is not a whole number from 1 up.

    Raises:
        InputError: Names the attack, the key and the value.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        msg = f"{attack}: {key} = {value!r} is not a whole number from 1 up"
        raise InputError(msg)


@dataclass(frozen=True, eq=False)
class Ball:
    """Where the adversarial examples of each image may lie.

    Attributes:
        threat: Norm and radius.
        centres: The images, float32 [N, C, H, W] in [0, 1].
        low: Smallest value of each pixel, see `Threat.bounds`.
        high: Largest value of each pixel.
    """

    threat: Threat
    centres: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def around(cls, images: Tensor, threat: Threat) -> Ball:
        """The balls of a threat around images."""
        return cls(threat, images, *threat.bounds(images))

    def select(self, rows: Tensor) -> Ball:
        """The balls of some rows, an int64 or bool index."""
        return Ball(self.threat, self.centres[rows], self.low[rows], self.high[rows])

    def project(self, points: Tensor) -> Tensor:
        """See `Threat.project`."""
        if self.threat.norm == "Linf":
            return torch.clamp(points, self.low, self.high)
        return self.threat.project(points, self.centres)

    def random_points(self, noise: Noise, counter: int) -> Tensor:
        """Random points, float32 [N, C, H, W]: uniform in the Linf ball, or at a random place on the L2 sphere.

        In many dimensions nearly all of an L2 ball lies at its surface.
        """
        share = noise.uniform(counter, tuple(self.centres.shape[1:]))
        if self.threat.norm == "Linf":
            return self.project(torch.lerp(self.low, self.high, share))
        return self.project(self.centres + self.threat.epsilon * self.steepest(share - 0.5))

    def steepest(self, slope: Tensor) -> Tensor:
        """The move of length 1 along which a function of this gradient rises most; zero where the gradient is."""
        if self.threat.norm == "Linf":
            return slope.sign()
        # Gradients may be so small, or so large, that their squares are not floats any more; the sign of NaN is 0.
        slope = slope.nan_to_num()
        largest = per_image(slope.abs().flatten(1).amax(1))
        scaled = slope / torch.where(largest > 0, largest, 1)
        length = per_image(torch.linalg.vector_norm(scaled.flatten(1), dim=1))
        return scaled / torch.where(length > 0, length, 1)


class Restart(Protocol):
    """One of several runs of an attack, on some rows of the batch, an int64 index."""

    def __call__(self, number: int, rows: Tensor) -> Best: ...


def with_restarts(restart: Restart, count: int, images: Tensor) -> Tensor:
    """Runs an attack `count` times; every run after the first attacks only what no earlier run changed.

    Args:
        restart: Attacks the rows it is given, with a number from 0 up.
        count: At least 1.
        images: float32 [N, C, H, W], all that are attacked.

    Returns:
        float32 [N, C, H, W], the best point of each image over all runs.
    """
    rows = torch.arange(len(images), device=images.device)
    best = restart(0, rows)
    for number in range(1, count):
        rows = (~best.misclassified).nonzero().squeeze(1)
        if len(rows) == 0:
            break
        best.put(rows, restart(number, rows))
    return best.points


# As many as the reference ensemble uses on 10 classes, and a bound on the cost with 1000.
TARGETS = 9


def likeliest_wrong(victim: Victim, images: Tensor, labels: Tensor, count: int) -> Tensor:
    """The wrong classes of largest logit on the images, largest first.

    Returns:
        int64 [N, min(count, K - 1)].
    """
    logits = victim.logits(images).scatter(1, labels[:, None], -math.inf)
    return logits.topk(min(count, logits.shape[1] - 1), dim=1).indices
