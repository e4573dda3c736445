"""Evaluating no more images than a gate needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness.statistics.intervals import Accuracy
from tscnc_deploy.robustness.statistics.sequential import Decision, GateTest


@dataclass(frozen=True, eq=False)
class SequentialResult:
    """How a gate was decided.

    Attributes:
        test: Limit, looks and confidence.
        decision: "undecided" only after all images.
        accuracy: Of the images that were evaluated, with the interval that allows for the looks.
        indices: int64 [n], which images were evaluated, in that order.
        outcomes: bool [n], whether each stands.
    """

    test: GateTest
    decision: Decision
    accuracy: Accuracy
    indices: Tensor
    outcomes: Tensor

    def to_json(self) -> dict[str, object]:
        """Everything but the outcomes per image."""
        return {
            "decision": self.decision,
            "limit": self.test.limit,
            "confidence": self.test.confidence,
            "looks": list(self.test.looks),
            **self.accuracy.to_json(),
        }


def evaluate_until_decided(
    evaluate_batch: Callable[[Tensor], Tensor],
    total: int,
    limit: float,
    *,
    looks: Sequence[int] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    progress: Callable[[int, int, Decision], None] | None = None,
) -> SequentialResult:
    """Evaluates images in a random order until the gate is decided or there are no more.

    Args:
        evaluate_batch: Given int64 [n], which of the images 0 to total - 1 to evaluate, answers bool [n]: which stand.
        total: Number of images there are, at least 1.
        limit: The share to be reached, in (0, 1).
        looks: Numbers of images after which to ask, rising up to `total`; by default see `doubling_looks`.
        confidence: See `GateTest`.
        seed: Of the order of the images.
        progress: Called at every look with correct images, images so far and the decision.

    Raises:
        InputError: Settings out of range, or an answer that is not bool [n].
    """
    test = GateTest(limit, tuple(doubling_looks(total) if looks is None else looks), confidence)
    if test.looks[-1] != total:
        msg = f"looks = {list(test.looks)} do not end with the number of all images, {total}"
        raise InputError(msg)
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    outcomes = torch.zeros(0, dtype=torch.bool)
    decision: Decision = "undecided"
    for look in test.looks:
        indices = order[len(outcomes) : look]
        outcomes = torch.cat([outcomes, _checked(evaluate_batch(indices), len(indices))])
        decision = test.decide(int(outcomes.sum()), look)
        if progress:
            progress(int(outcomes.sum()), look, decision)
        if decision != "undecided":
            break
    correct, seen = int(outcomes.sum()), len(outcomes)
    accuracy = Accuracy(correct, seen, *test.interval(correct, seen))
    return SequentialResult(test, decision, accuracy, order[:seen], outcomes)


def doubling_looks(total: int, first: int = 64) -> list[int]:
    """Looks after `first` images, twice as many, and so on, and after all.

    Few looks cost little: of all gates that one look at all images would pass or fail half of the time, these decide
    about 44%, and an easy gate is decided by the first one or two.

    Raises:
        InputError: Fewer than one image.
    """
    if total < 1 or first < 1:
        msg = f"{total} images with a first look after {first} cannot be looked at; one is the least of both"
        raise InputError(msg)
    looks = []
    while first < total:
        looks.append(first)
        first *= 2
    return [*looks, total]


def _checked(outcomes: Tensor, count: int) -> Tensor:
    if outcomes.dtype != torch.bool or outcomes.shape != (count,):
        msg = f"outcomes must be bool [{count}], not {outcomes.dtype} {list(outcomes.shape)}"
        raise InputError(msg)
    return outcomes.cpu()
