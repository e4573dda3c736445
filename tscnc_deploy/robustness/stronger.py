"""Stronger attacks after signs of gradient masking, on the images that are still robust."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from tscnc_deploy.robustness.attacks.apgd import APGDCE, APGDT
from tscnc_deploy.robustness.attacks.base import Attack, per_image
from tscnc_deploy.robustness.attacks.hop_skip_jump import HopSkipJump
from tscnc_deploy.robustness.attacks.replay import Replay
from tscnc_deploy.robustness.attacks.square import Square
from tscnc_deploy.robustness.evaluation import Evaluation, evaluate
from tscnc_deploy.robustness.precise import precise
from tscnc_deploy.robustness.threat import Threat
from tscnc_deploy.robustness.victims import Victim

Number = TypeVar("Number", int, float)

_SQUARE_QUERIES, _LABEL_QUERIES = 2000, 500
STRONGER_QUERIES = _SQUARE_QUERIES + _LABEL_QUERIES
"""Queries per image of the searches that signs of masking lead to."""
_TRANSFER_STEPS = 50


@dataclass(frozen=True, eq=False)
class Transfer(Replay):
    """Replays adversarial examples of another model."""

    name: ClassVar[str] = "transfer"


@dataclass(frozen=True, eq=False)
class PreciseTransfer(Replay):
    """Replays adversarial examples that the victim's own network has in float64, see `PreciseVictim`."""

    name: ClassVar[str] = "float64-apgd"


def stronger_attacks(
    signs: Collection[str],
    attacks: Sequence[Attack],
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    surrogate: Victim | None = None,
    *,
    seed: int = 0,
    batch_size: int = 256,
) -> list[Attack]:
    """Attacks that may succeed where gradients mislead, the cheapest first.

    Examples that the victim's own network has in float64, another model's examples, a long search that needs only
    scores, and one that needs only labels.

    Args:
        signs: Names of `MaskingWarning`s.
        attacks: The attacks so far, which are not repeated.
        victim: The victim.
        images: The images that are still robust, float32 [N, C, H, W] in [0, 1].
        labels: int64 [N].
        threat: How far images may be moved.
        surrogate: The other model of the sign "transfer-stronger".
        seed: Seed of the searches on other networks than the victim.
        batch_size: Images per forward pass of those searches.
    """
    searches: list[Attack] = [APGDCE(_TRANSFER_STEPS), APGDT(_TRANSFER_STEPS)]

    def examples(other: Victim) -> Tensor:
        found = evaluate(other, images, labels, threat, searches, seed=seed, batch_size=batch_size, cascade=True)
        return found.adversarial

    stronger: list[Attack] = []
    if (own := precise(victim, images[:batch_size])) is not None:
        stronger.append(PreciseTransfer(examples(own)))
    if surrogate is not None and "transfer-stronger" in signs:
        stronger.append(Transfer(examples(surrogate)))
    for search in (Square(_SQUARE_QUERIES), HopSkipJump(_LABEL_QUERIES)):
        longest = max((each.queries for each in attacks if isinstance(each, type(search))), default=0)
        if longest < search.queries:
            stronger.append(search)
    return stronger


def merge(evaluation: Evaluation, rows: Tensor, found: Evaluation, confidence: float = 0.95) -> Evaluation:
    """Joins an evaluation with further attacks on the images that were robust in it.

    Args:
        evaluation: The evaluation of all images.
        rows: int64 [M], the images that were robust in it.
        found: The evaluation of these images, a cascade: images robust to one of its attacks were robust to all
            earlier.
        confidence: Confidence of the intervals.
    """
    by_attack = dict(evaluation.robust_by_attack)
    for name, robust in found.robust_by_attack.items():
        by_attack[name] = _put(evaluation.robust_mask, rows, robust)
    misclassified = per_image(~found.robust_mask)
    adversarial = _put(
        evaluation.adversarial, rows, torch.where(misclassified, found.adversarial, evaluation.adversarial[rows])
    )
    return Evaluation.of(
        evaluation.threat,
        evaluation.correct,
        by_attack,
        adversarial,
        settings=evaluation.settings | found.settings,
        cascade=evaluation.cascade,
        seconds=_sum(evaluation.seconds, found.seconds),
        queries=_sum(evaluation.queries, found.queries),
        confidence=confidence,
    )


def _put(values: Tensor, rows: Tensor, others: Tensor) -> Tensor:
    values = values.clone()
    values[rows] = others
    return values


def _sum(first: dict[str, Number], second: dict[str, Number]) -> dict[str, Number]:
    return first | {name: first.get(name, 0) + value for name, value in second.items()}
