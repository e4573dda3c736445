from __future__ import annotations

import math

import pytest
import torch

from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness.statistics.quantiles import quantiles


def test_intervals_lie_between_the_tabulated_ranks():
    # 95% intervals of the median reach from the 6th to the 15th of 20 values and from the 2nd to the 9th of 10:
    # tables of the sign test, such as Conover, "Practical nonparametric statistics".
    (median,) = quantiles(torch.arange(1.0, 21), [0.5])
    assert (median.share, median.value, median.low, median.high) == (0.5, 10.0, 6.0, 15.0)
    (median,) = quantiles(torch.arange(1.0, 11), [0.5])
    assert (median.value, median.low, median.high) == (5.0, 2.0, 9.0)


def test_the_order_of_the_values_does_not_matter():
    values = torch.arange(100.0)[torch.randperm(100, generator=torch.Generator().manual_seed(0))]
    assert [quantile.value for quantile in quantiles(values, [0.05, 0.07, 0.25, 0.95])] == [4.0, 6.0, 24.0, 94.0]


def test_too_few_values_bound_nothing():
    (median,) = quantiles(torch.tensor([3.0, 1.0]), [0.5])
    assert (median.value, median.low, median.high) == (1.0, 0.0, None)
    assert median.to_json() == {"share": 0.5, "value": 1.0, "low": 0.0, "high": None}


def test_infinite_values_are_larger_than_all_others():
    values = torch.tensor([1.0] * 62 + [math.inf] * 38)
    half, most = quantiles(values, [0.5, 0.75])
    assert (half.value, half.low, half.high) == (1.0, 1.0, 1.0)
    assert (most.value, most.low, most.high) == (None, None, None)


def test_intervals_cover_the_true_quantile_as_often_as_they_say():
    draws = torch.rand(2000, 30, generator=torch.Generator().manual_seed(0))
    covered = [
        low <= 0.25 <= high
        for low, high in ((q.low, math.inf if q.high is None else q.high) for d in draws for q in quantiles(d, [0.25]))
    ]
    assert sum(covered) / 2000 > 0.945


def test_confidence_must_be_one():
    with pytest.raises(InputError, match=r"write 0\.95"):
        quantiles(torch.ones(3), confidence=95)
