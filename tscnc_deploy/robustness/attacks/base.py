"""The interface of attacks, and what they share."""

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
    """A search for misclassified points in the ball around each image."""

    @property
    def name(self) -> str:
        """A short name that is unique for its settings, such as "pgd-20x5"."""
        ...

    @property
    def needs_gradient(self) -> bool:
        """Whether the victim must be differentiable."""
        ...

    def settings(self) -> dict[str, object]:
        """Everything that determines the attack except victim, threat and seed; serialisable as JSON."""
        ...

    def run(self, victim: Victim, images: Tensor, labels: Tensor, threat: Threat, noise: Noise) -> Tensor:
        """Attacks a batch.

        Args:
            victim: What is attacked.
            images: float32 [N, C, H, W] in [0, 1] on the victim's device.
            labels: int64 [N] on the same device.
            threat: How far each image may be moved.
            noise: Randomness for the N images, on the same device.

        Returns:
            Same shape as images, inside the ball and [0, 1]: for each image the point of highest loss that was found,
            among the misclassified ones if there are any.

        Raises:
            InputError: The attack needs gradients, but the victim has none.
        """
        ...


@dataclass
class Best:
    """The best point so far for each image: misclassified points first, then by highest loss.

    Attributes:
        points: float32 [N, C, H, W].
        loss: float32 [N].
        misclassified: bool [N], whether the point is misclassified.
    """

    points: Tensor
    loss: Tensor
    misclassified: Tensor

    def update(self, points: Tensor, loss: Tensor, misclassified: Tensor) -> None:
        """Takes over better points, without synchronising with the device."""
        better = (misclassified & ~self.misclassified) | ((misclassified == self.misclassified) & (loss > self.loss))
        self.points = torch.where(per_image(better), points, self.points)
        self.loss = torch.where(better, loss, self.loss)
        self.misclassified = self.misclassified | misclassified

    def select(self, rows: Tensor) -> Best:
        """A copy of some rows, given an int64 or bool index."""
        return Best(self.points[rows], self.loss[rows], self.misclassified[rows])

    def put(self, rows: Tensor, other: Best) -> None:
        """Replaces the given rows (an int64 index) in place where the other's are better."""
        mine = self.select(rows)
        mine.update(other.points, other.loss, other.misclassified)
        self.points[rows], self.loss[rows], self.misclassified[rows] = mine.points, mine.loss, mine.misclassified


def per_image(values: Tensor) -> Tensor:
    """Reshapes [N] to [N, 1, 1, 1], to broadcast with images."""
    return values[:, None, None, None]


def gradient(victim: Victim, points: Tensor, labels: Tensor, loss: Loss) -> tuple[Tensor, Tensor, Tensor]:
    """The loss, whether points are misclassified, and the gradient of the loss with respect to the points.

    Args:
        victim: What is attacked.
        points: float32 [N, C, H, W].
        labels: int64 [N].
        loss: Maps logits and labels to a loss per image; the gradient is that of the sum.

    Returns:
        float32 [N], bool [N] and float32 [N, C, H, W]; the gradient is zero where the logits do not depend on the
        points or are not differentiable.
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
    """The loss, float32 [N], and whether points are misclassified, bool [N], without a gradient; see `gradient`."""
    logits = victim.logits(points)
    return loss(logits, labels), is_misclassified(logits, labels)


def calls(attack: Attack) -> int:
    """Approximate number of times that an attack has an image classified which stays robust."""
    settings = attack.settings()

    def number(key: str) -> int:
        value = settings.get(key, 1)
        return value if isinstance(value, int) else 1

    if attack.needs_gradient:
        return number("steps") * number("restarts") * number("targets")
    return number("queries")


def require_count(attack: str, key: str, value: int) -> None:
    """Refuses a number of steps, restarts, targets or queries that is not a positive integer.

    Raises:
        InputError: The message names the attack, the key and the value.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        msg = f"{attack}: {key} = {value!r} is not a positive integer"
        raise InputError(msg)


@dataclass(frozen=True, eq=False)
class Ball:
    """The allowed adversarial examples of each image.

    Attributes:
        threat: Norm and radius.
        centres: The images, float32 [N, C, H, W] in [0, 1].
        low: Minimum of each pixel, see `Threat.bounds`.
        high: Maximum of each pixel.
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
        """The balls of some rows, given an int64 or bool index."""
        return Ball(self.threat, self.centres[rows], self.low[rows], self.high[rows])

    def project(self, points: Tensor) -> Tensor:
        """See `Threat.project`."""
        if self.threat.norm == "Linf":
            return torch.clamp(points, self.low, self.high)
        return self.threat.project(points, self.centres)

    def random_points(self, noise: Noise, counter: int) -> Tensor:
        """Random points, float32 [N, C, H, W]: uniform in the Linf ball, or uniform on the L2 sphere.

        In high dimensions nearly all of an L2 ball's volume is close to its surface.
        """
        share = noise.uniform(counter, tuple(self.centres.shape[1:]))
        if self.threat.norm == "Linf":
            return self.project(torch.lerp(self.low, self.high, share))
        return self.project(self.centres + self.threat.epsilon * self.steepest(share - 0.5))

    def steepest(self, slope: Tensor) -> Tensor:
        """The direction of steepest ascent, of length 1 in the norm; zero where the gradient is zero."""
        if self.threat.norm == "Linf":
            return slope.sign()
        # Squares of very small or very large gradients may underflow or overflow; the sign of NaN is 0.
        slope = slope.nan_to_num()
        largest = per_image(slope.abs().flatten(1).amax(1))
        scaled = slope / torch.where(largest > 0, largest, 1)
        length = per_image(torch.linalg.vector_norm(scaled.flatten(1), dim=1))
        return scaled / torch.where(length > 0, length, 1)


class Restart(Protocol):
    """One of several runs of an attack, on some rows of the batch (an int64 index)."""

    def __call__(self, number: int, rows: Tensor) -> Best: ...


def with_restarts(restart: Restart, count: int, images: Tensor) -> Tensor:
    """Runs an attack `count` times; runs after the first only attack images that are still robust.

    Args:
        restart: Attacks the given rows; also gets the number of the run, from 0.
        count: At least 1.
        images: float32 [N, C, H, W], all attacked images.

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


# The number that the reference ensemble uses on 10 classes; limits the cost with 1000 classes.
TARGETS = 9


def likeliest_wrong(victim: Victim, images: Tensor, labels: Tensor, count: int) -> Tensor:
    """The wrong classes with the largest logits on the images, largest first.

    Returns:
        int64 [N, min(count, K - 1)].
    """
    logits = victim.logits(images).scatter(1, labels[:, None], -math.inf)
    return logits.topk(min(count, logits.shape[1] - 1), dim=1).indices
