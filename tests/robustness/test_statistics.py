from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness import accuracy, clopper_pearson, mcnemar_exact, tango_upper_bound


def test_accuracy_holds_counts_share_and_interval():
    share = accuracy(32, 64)
    assert share.to_json() == {
        "correct": 32,
        "total": 64,
        "accuracy": 0.5,
        "low": pytest.approx(0.37232, abs=1e-5),
        "high": pytest.approx(0.62768, abs=1e-5),
    }


def test_clopper_pearson_at_the_ends_has_closed_forms():
    # With no success of n the upper end is 1 - (alpha/2)^(1/n).
    assert clopper_pearson(0, 10) == (0.0, pytest.approx(1 - 0.025**0.1))
    assert clopper_pearson(10, 10) == (pytest.approx(0.025**0.1), 1.0)
    assert clopper_pearson(0, 1, confidence=0.9) == (0.0, pytest.approx(0.95))


@pytest.mark.parametrize(("correct", "total"), [(1, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(correct, total):
    with pytest.raises(InputError, match="is no count"):
        clopper_pearson(correct, total)


@pytest.mark.parametrize("confidence", [0, 1, 95, float("nan")])
def test_impossible_confidence_is_refused(confidence):
    with pytest.raises(InputError, match=r"write 0\.95"):
        clopper_pearson(1, 2, confidence)


@pytest.mark.parametrize(
    ("lost", "gained", "total", "confidence", "low", "high"),
    [
        # Tango 1998, 6.2: sleeping difficulties, 95% interval.
        (9, 3, 32, 0.95, -0.027, 0.390),
        # Tango 1998, 6.1: soft contact lenses, 90% interval of the difference 0 - 1 in 44.
        (0, 1, 44, 0.90, -0.096, None),
        # Fagerland, Lydersen and Laake, "Recommended tests and confidence intervals for paired binomial proportions",
        # Statistics in Medicine 33, 2014: airway hyper-responsiveness (Bentur et al.), 95% interval.
        (1, 7, 21, 0.95, -0.517, -0.026),
        # R, PropCIs 0.3-0: scoreci.mp(25, 28, 618, conf.level = 0.9).
        (28, 25, 618, 0.90, -0.0148, 0.0247),
    ],
)
def test_tango_bounds_agree_with_published_intervals(lost, gained, total, confidence, low, high):
    """A one-sided bound at level 1 - a is the end of the two-sided interval at level 1 - 2a."""
    one_sided = (1 + confidence) / 2
    accuracy_of_print = 5.1e-5 if total == 618 else 5.1e-4
    if high is not None:
        assert tango_upper_bound(lost, gained, total, one_sided) == pytest.approx(high, abs=accuracy_of_print)
    assert -tango_upper_bound(gained, lost, total, one_sided) == pytest.approx(low, abs=accuracy_of_print)


def score_statistic(lost, gained, total, difference):
    """Tango's statistic with the constrained likelihood maximised numerically over p_gained."""

    def minus_log_likelihood(p_gained):
        cells = (
            (lost, p_gained + difference),
            (gained, p_gained),
            (total - lost - gained, 1 - 2 * p_gained - difference),
        )
        return -sum(count * math.log(max(p, 1e-300)) for count, p in cells if count)

    ends = (max(0.0, -difference), (1 - difference) / 2)
    p_gained = minimize_scalar(minus_log_likelihood, bounds=ends, method="bounded", options={"xatol": 1e-12}).x
    variance = total * (2 * p_gained + difference - difference**2)
    return (lost - gained - total * difference) / math.sqrt(variance)


@pytest.mark.parametrize(
    ("lost", "gained", "total"), [(20, 5, 1000), (20, 5, 10_000), (3, 0, 64), (0, 4, 64), (40, 20, 160), (7, 7, 50)]
)
def test_tango_bound_is_where_the_numerically_profiled_statistic_reaches_its_quantile(lost, gained, total):
    bound = tango_upper_bound(lost, gained, total)
    assert score_statistic(lost, gained, total, bound) == pytest.approx(-norm.ppf(0.95), abs=1e-3)


def test_tango_bound_without_any_difference_is_that_of_a_share_of_zero():
    # Without discordant pairs it is Wilson's bound z^2 / (n + z^2).
    z = 1.6448536269514722
    assert tango_upper_bound(0, 0, 100) == pytest.approx(z**2 / (100 + z**2), abs=1e-9)


def test_tango_bound_when_everything_is_lost_is_one():
    assert tango_upper_bound(5, 0, 5) == 1.0


def test_the_margin_and_not_the_p_value_tells_large_from_small_losses():
    assert tango_upper_bound(20, 5, 1000) == pytest.approx(0.0242, abs=1e-4)
    assert tango_upper_bound(20, 5, 10_000) == pytest.approx(0.00243, abs=1e-5)
    assert mcnemar_exact(20, 5) == pytest.approx(0.00408, abs=1e-5)


@given(st.data())
def test_tango_bound_lies_between_the_observed_difference_and_one_and_grows_with_losses(data):
    total = data.draw(st.integers(1, 300))
    lost = data.draw(st.integers(0, total))
    gained = data.draw(st.integers(0, total - lost))
    bound = tango_upper_bound(lost, gained, total)
    assert (lost - gained) / total <= bound <= 1
    if lost + gained < total:
        assert bound <= tango_upper_bound(lost + 1, gained, total) + 1e-9


def test_tango_needs_possible_counts_and_a_confidence_above_one_half():
    with pytest.raises(InputError, match="3 and 3 of 5"):
        tango_upper_bound(3, 3, 5)
    with pytest.raises(InputError, match=r"between 0\.5 and 1"):
        tango_upper_bound(1, 1, 5, confidence=0.05)


def test_mcnemar_exact_is_the_two_sided_sign_test():
    assert mcnemar_exact(0, 0) == 1.0
    assert mcnemar_exact(4, 4) == 1.0
    assert mcnemar_exact(5, 0) == pytest.approx(2 / 32)
    assert mcnemar_exact(1, 7) == pytest.approx(2 * 9 / 256)
