from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import multinomial, norm

from tscnc_deploy.errors import InputError
from tscnc_deploy.record import Accuracy
from tscnc_deploy.robustness import (
    accuracy,
    clopper_pearson,
    hoeffding_interval,
    images_to_halve,
    images_to_settle,
    mcnemar_exact,
    tango_upper_bound,
)


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
    with pytest.raises(InputError, match="is not possible; at least one image is needed"):
        clopper_pearson(correct, total)


@pytest.mark.parametrize("confidence", [0, 1, 95, float("nan")])
def test_impossible_confidence_is_refused(confidence):
    with pytest.raises(InputError, match=r"write 0\.95"):
        clopper_pearson(1, 2, confidence)


@pytest.mark.parametrize(
    ("lost", "gained", "total", "confidence", "low", "high", "digits"),
    [
        # Tango 1998, 6.2: sleeping difficulties, 95% interval.
        (9, 3, 32, 0.95, -0.027, 0.390, 3),
        # Tango 1998, 6.1: soft contact lenses, 90% interval of the difference 0 - 1 in 44.
        (0, 1, 44, 0.90, -0.096, None, 3),
        # Fagerland, Lydersen and Laake, "Recommended tests and confidence intervals for paired binomial proportions",
        # Statistics in Medicine 33, 2014: airway hyper-responsiveness (Bentur et al.), 95% interval.
        (1, 7, 21, 0.95, -0.517, -0.026, 3),
        # R, PropCIs 0.3-0: scoreci.mp(25, 28, 618, conf.level = 0.9).
        (28, 25, 618, 0.90, -0.0148, 0.0247, 4),
        # R, contingencytables 3.0: Tango_asymptotic_score_CI_paired_2x2(cavo_2012), of Fagerland, Lydersen and Laake,
        # "Statistical analysis of contingency tables", 2017, chapter 8.
        (6, 16, 161, 0.95, -0.1240, -0.0054, 4),
    ],
)
def test_tango_bounds_agree_with_published_intervals(lost, gained, total, confidence, low, high, digits):
    """A one-sided bound at level 1 - a is the end of the two-sided interval at level 1 - 2a."""
    one_sided = (1 + confidence) / 2
    accuracy_of_print = 0.51 * 10.0**-digits
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


@pytest.mark.parametrize("worse", [0.02, 0.05, 0.1])
@pytest.mark.parametrize("gained", [0.0, 0.01, 0.05])
def test_tango_bound_is_seldom_below_the_true_difference(worse, gained):
    """The exact level with 50 images, by enumeration of all counts that occur."""
    missed = 0.0
    for lost_count in range(26):
        for gained_count in range(21):
            counts = [lost_count, gained_count, 50 - lost_count - gained_count]
            chance = multinomial.pmf(counts, 50, [gained + worse, gained, 1 - 2 * gained - worse])
            if chance > 1e-9 and tango_upper_bound(lost_count, gained_count, 50) < worse:
                missed += chance
    assert missed < 0.06


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
    # R, contingencytables 3.0: McNemar_exact_cond_test_paired_2x2(cavo_2012).
    assert mcnemar_exact(6, 16) == pytest.approx(0.052479, abs=1e-6)


def test_images_to_settle_are_the_fewest_that_move_the_interval_past_the_limit():
    assert images_to_settle(accuracy(32, 64), 0.45) == 402
    assert clopper_pearson(201, 402)[0] > 0.45 > clopper_pearson(200, 400)[0]
    assert images_to_settle(accuracy(32, 64), 0.55) == 402
    assert images_to_settle(accuracy(500, 1000), 0.45) == 1000
    assert images_to_settle(accuracy(32, 64), 0.5) is None
    # The limit may be 1: it is settled once an image is wrong; a share of all images never reaches it.
    assert images_to_settle(accuracy(32, 64), 1.0) == 64
    assert images_to_settle(accuracy(64, 64), 1.0) is None


def test_images_to_halve_are_four_times_as_many_near_one_half():
    assert images_to_halve(accuracy(500, 1000)) == 3945
    width = [high - low for low, high in (clopper_pearson(500, 1000), clopper_pearson(1972, 3944))]
    assert width[1] == pytest.approx(width[0] / 2, rel=1e-3)


@pytest.mark.parametrize("total", [1, 7, 64, 1000])
def test_images_to_halve_are_about_twice_as_many_when_none_or_all_are_correct(total):
    # The interval of 0 of n is 1 - 0.025**(1/n) wide.
    half = (1 - 0.025 ** (1 / total)) / 2
    expected = math.ceil(math.log(0.025) / math.log1p(-half))
    assert images_to_halve(accuracy(0, total)) == images_to_halve(accuracy(total, total)) == expected


@given(st.integers(1, 400), st.floats(0, 1), st.floats(0.5, 0.99))
def test_images_to_halve_halve(total, share, confidence):
    measured = accuracy(round(share * total), total, confidence)
    needed = images_to_halve(measured, confidence)
    half = (measured.high - measured.low) / 2

    def width(times):
        low, high = clopper_pearson(measured.correct * times, total * times, confidence)
        return high - low

    # At whole multiples of the images the share can stay exactly what it is.
    assert width(math.ceil(needed / total)) <= half
    assert width((needed - 1) // total) > half


def test_figures_of_another_confidence_than_asked_for_do_not_mislead():
    narrow = Accuracy.counted(500, 1000, 0.49, 0.51)
    assert images_to_halve(narrow) == 3945


def test_hoeffding_interval_has_closed_forms_at_the_ends_and_is_wider_than_that_of_a_binomial_share():
    assert hoeffding_interval(0.0, 10) == (0.0, pytest.approx(1 - 0.025**0.1))
    assert hoeffding_interval(1.0, 10) == (pytest.approx(0.025**0.1), 1.0)
    low, high = hoeffding_interval(0.3, 200)
    assert low < clopper_pearson(60, 200)[0] < 0.3 < clopper_pearson(60, 200)[1] < high
    # KL(0.3, end) = ln(40) / 200
    for end in (low, high):
        assert 0.3 * math.log(0.3 / end) + 0.7 * math.log(0.7 / (1 - end)) == pytest.approx(math.log(40) / 200)


def test_hoeffding_needs_a_mean_of_figures_between_0_and_1():
    with pytest.raises(InputError, match=r"mean = 1\.5"):
        hoeffding_interval(1.5, 10)
    with pytest.raises(InputError, match="of 0 values"):
        hoeffding_interval(0.5, 0)
