"""FAB: searches for the nearest misclassified point, and thereby for one in the ball."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tscnc_deploy.robustness.attacks.base import (
    TARGETS,
    Ball,
    Best,
    likeliest_wrong,
    per_image,
    require_count,
    with_restarts,
)
from tscnc_deploy.robustness.losses import is_misclassified, margin
from tscnc_deploy.robustness.noise import Noise
from tscnc_deploy.robustness.projections import onto_hyperplane
from tscnc_deploy.robustness.threat import Threat
from tscnc_deploy.robustness.victims import Victim

OVERSHOOT = 1.05
BIAS = 0.1
BACK = 0.9
# Dropping finished images synchronises with the device, so it is not done after every step.
_DROP_EVERY = 10


@dataclass
class Boundary:
    """A linear model of the decision boundary that is approached: 0 on it, positive beyond it.

    Attributes:
        values: Values at the points where the gradient was computed, float32 [N].
        normals: The gradient, float32 [N, C, H, W].
        logits: Logits at the same points, float32 [N, K].
    """

    values: Tensor
    normals: Tensor
    logits: Tensor

    def at(self, places: Tensor, points: Tensor) -> Tensor:
        """The model's values at other points, float32 [N], given the points where the gradient was computed."""
        return self.values + (self.normals * (places - points)).flatten(1).sum(1)


def _to_targets(victim: Victim, points: Tensor, labels: Tensor, targets: Tensor) -> Boundary:
    """The boundary to each image's target class; takes one gradient."""
    points = points.detach().requires_grad_()
    with torch.enable_grad():
        logits = victim.differentiable(points)
        values = _lead(logits, labels, targets)
        normals = _gradient(values, points, retain=False)
    return Boundary(values.detach(), normals, logits.detach())


def _to_nearest(victim: Victim, points: Tensor, labels: Tensor, norm: str) -> Boundary:
    """The nearest boundary in the linear model, among those to all other classes; takes one gradient per class."""
    points = points.detach().requires_grad_()
    values = torch.zeros_like(labels, dtype=points.dtype)
    normals = torch.zeros_like(points)
    nearest = torch.full_like(values, math.inf)
    with torch.enable_grad():
        logits = victim.differentiable(points)
        classes = logits.shape[1]
        for offset in range(1, classes):
            # Starting after each image's own class skips it.
            lead = _lead(logits, labels, (labels + offset) % classes)
            normal = _gradient(lead, points, retain=offset < classes - 1)
            lead, steepness = lead.detach(), normal.flatten(1)
            dual = steepness.abs().sum(1) if norm == "Linf" else torch.linalg.vector_norm(steepness, dim=1)
            distance = lead.abs() / (dual + 1e-12)
            nearer = distance < nearest
            nearest = torch.where(nearer, distance, nearest)
            values = torch.where(nearer, lead, values)
            normals = torch.where(per_image(nearer), normal, normals)
    return Boundary(values, normals, logits.detach())


@dataclass
class Approach:
    """The results of one run, per image.

    Attributes:
        best: The best points in the ball.
        nearest: float32 [N, C, H, W], the misclassified point nearest to the image; the image itself if none was found.
        distance: float64 [N], its distance from the image; infinite if none was found.
    """

    best: Best
    nearest: Tensor
    distance: Tensor

    def select(self, rows: Tensor) -> Approach:
        """A copy of some rows, an int64 index."""
        return Approach(self.best.select(rows), self.nearest[rows], self.distance[rows])

    def put(self, rows: Tensor, other: Approach) -> None:
        """Replaces the given rows in place."""
        self.best.put(rows, other.best)
        self.nearest[rows], self.distance[rows] = other.nearest, other.distance

    def record(self, ball: Ball, points: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """Records points anywhere in [0, 1]; returns which of them are misclassified, bool [N]."""
        misclassified, moves = is_misclassified(logits, labels), points.double() - ball.centres.double()
        distance = ball.threat.length(moves)
        inside = distance <= ball.threat.epsilon
        self.best.update(points, torch.where(inside, margin(logits, labels), -math.inf), misclassified & inside)
        nearer = misclassified & (distance < self.distance)
        self.nearest = torch.where(per_image(nearer), points, self.nearest)
        self.distance = torch.where(nearer, distance, self.distance)
        return misclassified


def approach(
    victim: Victim,
    steps: int,
    ball: Ball,
    start: Tensor,
    labels: Tensor,
    targets: Tensor | None = None,
) -> Approach:
    """One run of FAB.

    Each step goes slightly beyond the boundary's linear model, biased towards its point nearest to the image. A
    misclassified point is first moved back towards the image. The paper computes the gradient after that; here the
    gradient at the misclassified point, which is just as close to the boundary, is used: one forward and one backward
    pass per step instead of two and one.

    Args:
        victim: What is attacked.
        steps: Number of gradients.
        ball: A misclassified point in it is a success; such images are dropped soon after.
        start: float32 [N, C, H, W] in the ball.
        labels: int64 [N].
        targets: int64 [N], the target class of each image; by default, the nearest class at each step.
    """
    threat, rows = ball.threat, torch.arange(len(start), device=start.device)
    never = torch.full_like(start[:, 0, 0, 0], math.inf)
    best = Best(ball.centres, -never, torch.zeros_like(labels, dtype=torch.bool))
    walk = Approach(best, ball.centres, never.double())
    found, points = walk.select(rows), start
    for step in range(1, steps + 1):
        if targets is None:
            side = _to_nearest(victim, points, labels, threat.norm)
        else:
            side = _to_targets(victim, points, labels, targets)
        crossed = walk.record(ball, points, side.logits, labels)
        back = torch.where(per_image(crossed), torch.lerp(ball.centres, points, BACK), points)
        near = onto_hyperplane(back, side.normals, side.at(back, points), threat.norm)
        far = onto_hyperplane(ball.centres, side.normals, side.at(ball.centres, points), threat.norm)
        near_length, far_length = threat.length(near), threat.length(far)
        share = (near_length / (near_length + far_length).clamp(min=1e-12)).clamp(max=BIAS)
        points = torch.lerp(back + OVERSHOOT * near, ball.centres + OVERSHOOT * far, per_image(share)).clamp(0, 1)
        if step % _DROP_EVERY == 0:
            found.put(rows, walk)
            kept = (~walk.best.misclassified).nonzero().squeeze(1)
            if len(kept) == 0:
                return found
            if len(kept) < len(labels):
                rows, labels, points = rows[kept], labels[kept], points[kept]
                ball, walk = ball.select(kept), walk.select(kept)
                targets = None if targets is None else targets[kept]
    walk.record(ball, points, victim.logits(points), labels)
    # The direction to points beyond the ball shows where the loss is high inside it.
    entry = ball.project(walk.nearest)
    walk.record(ball, entry, victim.logits(entry), labels)
    found.put(rows, walk)
    return found


def _lead(logits: Tensor, labels: Tensor, others: Tensor) -> Tensor:
    """The logit of the other class minus that of the label, [N]."""
    return (logits.gather(1, others[:, None]) - logits.gather(1, labels[:, None])).squeeze(1)


def _gradient(values: Tensor, points: Tensor, *, retain: bool) -> Tensor:
    """The gradient of each value, [N], with respect to its point; zero where it does not depend on it."""
    if not values.requires_grad:
        return torch.zeros_like(points)
    (slope,) = torch.autograd.grad(values.sum(), points, retain_graph=retain, materialize_grads=True)
    return slope


@dataclass(frozen=True)
class FAB:
    """Approaches the nearest decision boundary of any class; takes one gradient per class and step.

    Attributes:
        steps: Steps per run.
        restarts: Number of runs on images that are still robust; the first starts at the clean image, the others
            halfway to a random point.

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

        def restart(number: int, rows: Tensor) -> Best:
            part = ball.select(rows)
            start = part.centres
            if number > 0:
                start = torch.lerp(start, part.random_points(noise.select(rows), number), 0.5)
            return approach(victim, self.steps, part, start, labels[rows]).best

        return with_restarts(restart, self.restarts, images)


@dataclass(frozen=True)
class FABT:
    """Approaches the boundaries to one wrong class after another, from the clean image.

    Attributes:
        steps: Steps per class.
        targets: Number of classes, those with the largest logits first; at most all wrong classes. Runs after the first
            only attack images that are still robust.

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
        """See `Attack.run`; uses no random numbers."""
        ball = Ball.around(images, threat)
        targets = likeliest_wrong(victim, images, labels, self.targets)

        def restart(number: int, rows: Tensor) -> Best:
            aims = targets[rows, number]
            part = ball.select(rows)
            return approach(victim, self.steps, part, images[rows], labels[rows], aims).best

        return with_restarts(restart, targets.shape[1], images)
