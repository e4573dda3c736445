"""Quantiles of figures that each image has one of, with intervals that hold whatever their distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import binom
from torch import Tensor

from tscnc_deploy.robustness.statistics.intervals import check_confidence

SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Quantile:
    """The value that a share of the images does not exceed.

    Attributes:
        share: In (0, 1); 0.5 is the median.
        value: The smallest of the values that at least this share of all does not exceed; may be infinite.
        low: Lower end of the confidence interval.
        high: Upper end; infinite where there are too few images for one.
    """

    share: float
    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        """All fields by name; infinity is null."""
        fields = {"share": self.share, "value": self.value, "low": self.low, "high": self.high}
        return {name: value if math.isfinite(value) else None for name, value in fields.items()}


def quantiles(values: Tensor, shares: Sequence[float] = SHARES, confidence: float = 0.95) -> list[Quantile]:
    """Quantiles with intervals between two order statistics; they cover the true ones at least that often.

    Args:
        values: float [N] of at least one value, none negative or NaN; infinity is allowed.
        shares: Each in (0, 1).
        confidence: Of each interval, in (0, 1).

    Raises:
        InputError: Confidence out of range.

    Source: David and Nagaraja, "Order statistics", 3rd edition, 2003, section 7.1.
    """
    check_confidence(confidence, above=0)
    ordered = [0.0, *values.double().sort().values.tolist(), math.inf]
    total, tail = len(values), (1 - confidence) / 2
    return [
        Quantile(
            share,
            # Without the tiny allowance 0.07 * 100 would count as more than 7.
            ordered[max(1, math.ceil(share * total - 1e-9))],
            ordered[int(binom.ppf(tail, total, share))],
            ordered[int(binom.ppf(1 - tail, total, share)) + 1],
        )
        for share in shares
    ]
