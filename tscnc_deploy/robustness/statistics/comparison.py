"""Two classifiers on the same images."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness.statistics.intervals import mcnemar_exact, tango_upper_bound


@dataclass(frozen=True)
class Comparison:
    """What the second classifier loses relative to the first.

    Attributes:
        lost: Images that only the first has right.
        gained: Images that only the second has right.
        total: All images.
        difference: (lost - gained) / total; above 0 where the second is worse.
        upper_bound: One-sided upper bound of the difference (Tango's score interval); what a gate looks at.
        mcnemar_p: p-value of the exact McNemar test, to be read beside it.
    """

    lost: int
    gained: int
    total: int
    difference: float
    upper_bound: float
    mcnemar_p: float

    def to_json(self) -> dict[str, float]:
        """All fields by name."""
        return asdict(self)


def compare(first_outcomes: Tensor, second_outcomes: Tensor, confidence: float = 0.95) -> Comparison:
    """Compares two evaluations of the same images, image by image.

    Args:
        first_outcomes: bool [N], whether the first classifier is right (or still stands) on each image.
        second_outcomes: bool [N], the same for the second, in the same order.
        confidence: Of the upper bound, in (0.5, 1).

    Raises:
        InputError: The outcomes are not bool, are empty, or are not of the same images.
    """
    for outcomes in (first_outcomes, second_outcomes):
        if outcomes.dtype != torch.bool or outcomes.ndim != 1:
            msg = f"outcomes must be bool [N], not {outcomes.dtype} {list(outcomes.shape)}"
            raise InputError(msg)
    if len(first_outcomes) != len(second_outcomes):
        msg = f"outcomes of {len(first_outcomes)} and of {len(second_outcomes)} images are not of the same images"
        raise InputError(msg)
    total = len(first_outcomes)
    lost = int((first_outcomes & ~second_outcomes).sum())
    gained = int((~first_outcomes & second_outcomes).sum())
    upper_bound = tango_upper_bound(lost, gained, total, confidence)
    return Comparison(lost, gained, total, (lost - gained) / total, upper_bound, mcnemar_exact(lost, gained))
