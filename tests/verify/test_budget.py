from __future__ import annotations

import pytest

from tscnc_deploy.errors import InputError
from tscnc_deploy.verify import Budget, parse_budget


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("90s", Budget(seconds=90)),
        ("0.5s", Budget(seconds=0.5)),
        ("10m", Budget(seconds=600)),
        ("10 min", Budget(seconds=600)),
        ("1.5H", Budget(seconds=5400)),
        (" 2 hours ", Budget(seconds=7200)),
        ("50000q", Budget(queries=50000)),
        ("50000 queries", Budget(queries=50000)),
        ("1 query", Budget(queries=1)),
    ],
)
def test_budgets(text, budget):
    assert parse_budget(text) == budget
    assert hash(parse_budget(text)) == hash(budget)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("90", "--budget 90 has no unit; write 90s for seconds or 90q for queries"),
        ("0s", "a budget of 0 seconds leaves no time"),
        ("-5m", "a budget of -300 seconds leaves no time"),
        ("0q", "a budget of 0 queries leaves none"),
        ("-1q", "a budget of -1 queries leaves none"),
        ("1.5q", "--budget 1.5q is not a whole number of queries"),
        ("10 days", "--budget 10 days is not a budget; write a time such as 90s, 10m or 2h"),
        ("", "is not a budget"),
        ("soon", "is not a budget"),
        ("1e9q", "is not a budget"),
        ("inf s", "is not a budget"),
        ("9" * 400 + "s", "is not a budget"),
        ("10m 5s", "is not a budget"),
        ("٣s", "is not a budget"),
    ],
)
def test_what_is_no_budget(text, message):
    with pytest.raises(InputError, match=message):
        parse_budget(text)


@pytest.mark.parametrize("bounds", [{"seconds": 0.0}, {"seconds": float("nan")}, {"queries": 0}])
def test_bounds_that_leave_nothing_to_do(bounds):
    with pytest.raises(InputError, match="leaves"):
        Budget(**bounds)
