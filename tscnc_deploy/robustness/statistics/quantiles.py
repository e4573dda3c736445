"""Quantiles of per-image values, with distribution-free intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy.stats import binom
from torch import Tensor

from tscnc_deploy.record import Quantile
from tscnc_deploy.robustness.statistics.intervals import check_confidence

SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)


def quantiles(values: Tensor, shares: Sequence[float] = SHARES, confidence: float = 0.95) -> list[Quantile]:
    """Quantiles with confidence intervals between two order statistics.

    Args:
        values: float [N], at least one value, none negative or NaN; infinity is allowed.
        shares: Shares, each in (0, 1).
        confidence: Minimum probability that an interval covers the true quantile, in (0, 1).

    Returns:
        One quantile per share; infinite values or ends are None.

    Raises:
        InputError: Confidence out of range.

    Source: David and Nagaraja, "Order statistics", 3rd edition, 2003, section 7.1.
    """
    check_confidence(confidence, above=0)
    ordered = [0.0, *values.double().sort().values.tolist(), math.inf]
    total, tail = len(values), (1 - confidence) / 2
    return [
        Quantile(
            share=share,
            # Without the tiny tolerance, 0.07 * 100 would exceed 7.
            value=ordered[max(1, math.ceil(share * total - 1e-9))],
            low=ordered[int(binom.ppf(tail, total, share))],
            high=ordered[int(binom.ppf(1 - tail, total, share)) + 1],
        )
        for share in shares
    ]
