"""APGD: projected gradient ascent with momentum and an adaptive step size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness.attacks.base import (
    TARGETS,
    Ball,
    Best,
    evaluate_points,
    gradient,
    likeliest_wrong,
    per_image,
    require_count,
    with_restarts,
)
from tscnc_deploy.robustness.losses import DLR_CLASSES, LOSSES, targeted_dlr
from tscnc_deploy.robustness.noise import Noise
from tscnc_deploy.robustness.threat import Threat
from tscnc_deploy.robustness.victims import Victim

MOMENTUM = 0.75
RHO = 0.75


@dataclass
class _Run:
    """The state of the ascent for each image.

    The point of highest loss ("top") steers the search, whether or not it is misclassified.
    """

    points: Tensor
    previous: Tensor
    loss: Tensor
    slope: Tensor
    top_points: Tensor
    top_loss: Tensor
    top_slope: Tensor
    step_size: Tensor
    rises: Tensor
    loss_at_check: Tensor
    halved_at_check: Tensor

    def select(self, rows: Tensor) -> _Run:
        return _Run(*(getattr(self, field.name)[rows] for field in fields(self)))

    def move(self, ball: Ball, *, first: bool) -> None:
        """Takes a step."""
        ahead = ball.project(self.points + per_image(self.step_size) * ball.steepest(self.slope))
        if not first:
            momentum = MOMENTUM * (ahead - self.points) + (1 - MOMENTUM) * (self.points - self.previous)
            ahead = ball.project(self.points + momentum)
        self.previous, self.points = self.points, ahead

    def look(self, loss: Tensor, slope: Tensor) -> None:
        """Records loss and gradient at the current point."""
        self.rises = self.rises + (loss > self.loss)
        risen = loss > self.top_loss
        self.top_points = torch.where(per_image(risen), self.points, self.top_points)
        self.top_slope = torch.where(per_image(risen), slope, self.top_slope)
        self.top_loss = torch.where(risen, loss, self.top_loss)
        self.loss, self.slope = loss, slope

    def review(self, steps: int) -> None:
        """Halves the step size and returns to the top where the last steps rose too rarely or reached no new top."""
        oscillates = self.rises < RHO * steps
        stalls = ~self.halved_at_check & (self.top_loss == self.loss_at_check)
        halve = oscillates | stalls
        self.step_size = torch.where(halve, self.step_size / 2, self.step_size)
        self.points = torch.where(per_image(halve), self.top_points, self.points)
        self.slope = torch.where(per_image(halve), self.top_slope, self.slope)
        self.loss = torch.where(halve, self.top_loss, self.loss)
        self.loss_at_check, self.halved_at_check = self.top_loss, halve
        self.rises = torch.zeros_like(self.rises)


def apgd_ascent(
    victim: Victim,
    loss_function: Callable[..., Tensor],
    steps: int,
    ball: Ball,
    start: Tensor,
    labels: Tensor,
    targets: Tensor | None = None,
) -> Best:
    """One run of APGD.

    A misclassified image continues until the next review of the step size and is then dropped: by then its loss is
    close to its maximum, and other images are not affected.

    Args:
        victim: What is attacked.
        loss_function: The loss to maximise: maps logits and labels, and targets if given, to a loss per image.
        steps: Number of steps after the start.
        ball: The allowed points.
        start: float32 [N, C, H, W] in the ball.
        labels: int64 [N].
        targets: int64 [N].
    """
    rows = torch.arange(len(start), device=start.device)
    objective = loss_function if targets is None else partial(loss_function, targets=targets)
    loss, misclassified, slope = gradient(victim, start, labels, objective)
    best = Best(start, loss, misclassified)
    found = best.select(rows)
    first_step = torch.full_like(loss, 2 * ball.threat.epsilon)
    rises, halved = torch.zeros_like(loss), torch.ones_like(misclassified)
    run = _Run(start, start, loss, slope, start, loss, slope, first_step, rises, loss, halved)

    last_review, reviews = 0, set(checkpoints(steps))
    for step in range(1, steps):
        run.move(ball, first=step == 1)
        loss, misclassified, slope = gradient(victim, run.points, labels, objective)
        best.update(run.points, loss, misclassified)
        run.look(loss, slope)
        if step in reviews:
            run.review(step - last_review)
            last_review = step
            found.put(rows, best)
            kept = (~best.misclassified).nonzero().squeeze(1)
            if len(kept) == 0:
                return found
            if len(kept) < len(labels):
                rows, labels, ball = rows[kept], labels[kept], ball.select(kept)
                run, best = run.select(kept), best.select(kept)
                if targets is not None:
                    targets = targets[kept]
                    objective = partial(loss_function, targets=targets)
    run.move(ball, first=steps == 1)
    best.update(run.points, *evaluate_points(victim, run.points, labels, objective))
    found.put(rows, best)
    return found


def checkpoints(steps: int) -> list[int]:
    """The steps after which the step size is reviewed: ceil(p_j * steps) for the p_j of the paper, except 0.

    In hundredths, p_1 = 22 and each window is 3 shorter than the previous one, but at least 6 long.
    """
    # Integer hundredths, because 0.22 + 0.19 in floating point is above 0.41 and would round up to one step too many.
    marks, position, window = [], 22, 22
    while position < 100:
        marks.append(-(-position * steps // 100))
        window = max(window - 3, 6)
        position += window
    return sorted(set(marks))


@dataclass(frozen=True)
class APGDCE:
    """APGD on the cross-entropy, from a random point in the ball.

    Attributes:
        steps: Steps per run; images that are misclassified when the step size is reviewed stop early.
        restarts: Number of runs from random points; later runs only attack images that are still robust.

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
        """apgd-ce-STEPS, or apgd-ce-STEPSxRESTARTS; subclasses use their own family name."""
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

        def restart(number: int, rows: Tensor) -> Best:
            part = ball.select(rows)
            start = part.random_points(noise.select(rows), number)
            return apgd_ascent(victim, LOSSES[self.loss], self.steps, part, start, labels[rows])

        return with_restarts(restart, self.restarts, images)


@dataclass(frozen=True)
class APGDDLR(APGDCE):
    """APGD on the difference of logits ratio, which does not depend on the scale of the logits; needs 4 classes.

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
    """APGD towards one wrong class after another, on the targeted difference of logits ratio.

    Attributes:
        steps: Steps per class.
        targets: Number of classes, those with the largest logits first; at most all wrong classes. Runs after the first
            only attack images that are still robust.

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

        def restart(number: int, rows: Tensor) -> Best:
            part = ball.select(rows)
            start = part.random_points(noise.select(rows), number)
            return apgd_ascent(victim, targeted_dlr, self.steps, part, start, labels[rows], targets[rows, number])

        return with_restarts(restart, targets.shape[1], images)
