"""Two classifiers on the same images."""

from __future__ import annotations

import torch
from torch import Tensor

from tscnc_deploy.errors import InputError
from tscnc_deploy.record import Comparison
from tscnc_deploy.robustness.statistics.intervals import mcnemar_exact, tango_upper_bound


def compare(first_outcomes: Tensor, second_outcomes: Tensor, confidence: float = 0.95) -> Comparison:
    """Compares two evaluations of the same images, image by image.

    Args:
        first_outcomes: bool [N], whether the first classifier is correct (or robust) on each image.
        second_outcomes: bool [N], the same for the second, in the same order.
        confidence: Confidence of the upper bound, in (0.5, 1).

    Raises:
        InputError: The outcomes are not bool, are empty, or have different lengths.
    """
    for outcomes in (first_outcomes, second_outcomes):
        if outcomes.dtype != torch.bool or outcomes.ndim != 1:
            msg = f"outcomes must be bool [N], not {outcomes.dtype} {list(outcomes.shape)}"
            raise InputError(msg)
    if len(first_outcomes) != len(second_outcomes):
        msg = f"outcomes of {len(first_outcomes)} and of {len(second_outcomes)} images cannot be compared"
        raise InputError(msg)
    total = len(first_outcomes)
    lost = int((first_outcomes & ~second_outcomes).sum())
    gained = int((~first_outcomes & second_outcomes).sum())
    upper_bound = tango_upper_bound(lost, gained, total, confidence)  # refuses a total of 0
    return Comparison(
        lost=lost,
        gained=gained,
        total=total,
        difference=(lost - gained) / total,
        upper_bound=upper_bound,
        mcnemar_p=mcnemar_exact(lost, gained),
    )
