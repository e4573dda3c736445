"""Statistics of counts."""

from __future__ import annotations

import math
from bisect import bisect_left

from scipy.optimize import brentq
from scipy.special import rel_entr
from scipy.stats import beta, binomtest, norm

from tscnc_deploy.errors import InputError
from tscnc_deploy.record import Accuracy


def accuracy(correct: int, total: int, confidence: float = 0.95) -> Accuracy:
    """Accuracy with its two-sided Clopper-Pearson interval.

    Raises:
        InputError: See `clopper_pearson`.
    """
    low, high = clopper_pearson(correct, total, confidence)
    return Accuracy.counted(correct, total, low, high)


def clopper_pearson(successes: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact two-sided confidence interval of a binomial share.

    Args:
        successes: From 0 to total.
        total: At least 1.
        confidence: In (0, 1).

    Raises:
        InputError: Counts or confidence out of range.

    Source: Clopper and Pearson, Biometrika 26:404-413, 1934.
    """
    check_counts(successes, 0, total)
    check_confidence(confidence, above=0)
    return _interval(successes, total, confidence)


def images_to_settle(measured: Accuracy, limit: float, confidence: float = 0.95) -> int | None:
    """Total number of images that would move the interval to one side of a limit, if the share does not change.

    Args:
        measured: The accuracy measured so far.
        limit: Share in [0, 1] within the interval.
        confidence: Confidence of the two-sided interval.

    Returns:
        Number of images, at least that of `measured`; None if the measured share is so close to the limit that ten
        million images would not settle it.

    Raises:
        InputError: Confidence out of range.
    """
    check_confidence(confidence, above=0)

    def settled(total: int) -> bool:
        low, high = _interval(measured.accuracy * total, total, confidence)
        return low >= limit or high < limit

    totals = range(measured.total, max(10_000_000, measured.total) + 1)
    place = bisect_left(totals, True, key=settled)
    return totals[place] if place < len(totals) else None


def images_to_halve(measured: Accuracy, confidence: float = 0.95) -> int:
    """Total number of images that would make the interval half as wide as that of `measured`, at the same share.

    About four times as many, or twice as many if none or all are correct.

    Args:
        measured: The accuracy measured so far.
        confidence: Confidence of the two-sided interval.

    Raises:
        InputError: Confidence out of range.
    """
    check_confidence(confidence, above=0)

    def width(total: int) -> float:
        low, high = _interval(measured.accuracy * total, total, confidence)
        return high - low

    half = width(measured.total) / 2
    totals = range(measured.total, 10 * measured.total)
    return totals[bisect_left(totals, True, key=lambda total: width(total) <= half)]


def hoeffding_interval(mean: float, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided interval of the mean of values in [0, 1] with any distribution.

    For shares per image, such as the share of corruptions that an image tolerates, where counts are not binomial.

    Args:
        mean: Sample mean, in [0, 1].
        total: Number of independent values, at least 1.
        confidence: Minimum probability that the interval covers the expectation; in (0, 1).

    Raises:
        InputError: Mean, number or confidence out of range.

    Source: Hoeffding, "Probability inequalities for sums of bounded random variables", JASA 58:13-30, 1963, (2.1):
    the mean m is as far from the expectation p with a probability of at most exp(-n KL(m, p)).
    """
    check_confidence(confidence, above=0)
    if total < 1 or not 0 <= mean <= 1:
        msg = f"mean = {mean:g} of {total} values: at least one value is needed, and all must be in [0, 1]"
        raise InputError(msg)
    allowed = math.log(2 / (1 - confidence)) / total

    def excess(expectation: float) -> float:
        return float(rel_entr(mean, expectation) + rel_entr(1 - mean, 1 - expectation)) - allowed

    # The divergence is infinite at the ends, which breaks root finders.
    tiny = 1e-15
    low = brentq(excess, tiny * mean, mean) if mean and excess(tiny * mean) > 0 else 0.0
    high = brentq(excess, mean, 1 - tiny) if mean < 1 - tiny and excess(1 - tiny) > 0 else 1.0
    return float(low), float(high)


def tango_upper_bound(lost: int, gained: int, total: int, confidence: float = 0.95) -> float:
    """One-sided upper bound for the difference p_lost - p_gained between two classifiers on the same images.

    This is the largest difference that the score test at level 1 - confidence does not reject; the probabilities of the
    pairs are estimated by maximum likelihood under that difference. The level is asymptotic: over all outcomes of 50,
    100 and 200 images, with a second classifier that is worse by 1 to 10 points, the 95% bound is below the true
    difference in at most 6% of cases.

    Args:
        lost: Number of images that only the first classifier classifies correctly.
        gained: Number of images that only the second classifier classifies correctly.
        total: Number of all images, at least 1.
        confidence: In (0.5, 1).

    Returns:
        In [-1, 1], not below the observed (lost - gained) / total.

    Raises:
        InputError: Counts or confidence out of range.

    Source: Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample
    design", Statistics in Medicine 17:891-908, 1998.
    """
    check_counts(lost, gained, total)
    check_confidence(confidence, above=0.5)
    quantile = float(norm.ppf(confidence))

    def excess(difference: float) -> float:
        """Positive while the score statistic is above -quantile, that is, while the difference is not rejected."""
        # The constrained estimate of p_gained is the positive root of 2n q^2 + b q - gained d (1 - d).
        linear = (2 * total - lost + gained) * difference - lost - gained
        constant = gained * difference * (1 - difference)
        q = (math.sqrt(max(linear**2 + 8 * total * constant, 0.0)) - linear) / (4 * total)
        variance = total * (2 * q + difference * (1 - difference))
        return lost - gained - total * difference + quantile * math.sqrt(max(variance, 0.0))

    observed = (lost - gained) / total
    if lost == total:
        return 1.0
    # If no pairs differ, the variance at the observed difference is 0, and `excess` has a second root there.
    start = observed + 1e-9
    return float(brentq(excess, start, 1.0, xtol=1e-12)) if excess(start) > 0 else start


def mcnemar_exact(lost: int, gained: int) -> float:
    """Two-sided p-value of the hypothesis that losing and gaining an image are equally likely; 1 if both counts are 0.

    It tests whether there is a difference, not whether it matters: for gates, use `tango_upper_bound`.

    Source: McNemar, Psychometrika 12:153-157, 1947, in its exact binomial form.
    """
    check_counts(lost, gained, max(lost + gained, 1))
    return float(binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0


def _interval(successes: float, total: int, confidence: float) -> tuple[float, float]:
    """The Clopper-Pearson interval, generalised to non-integer counts."""
    tail = (1 - confidence) / 2
    low = beta.ppf(tail, successes, total - successes + 1) if successes else 0.0
    high = beta.ppf(1 - tail, successes + 1, total - successes) if successes < total else 1.0
    return float(low), float(high)


def check_counts(first: int, second: int, total: int) -> None:
    """Refuses counts that are negative or exceed `total`, and a total below 1.

    Raises:
        InputError: The message gives the counts.
    """
    if total < 1 or first < 0 or second < 0 or first + second > total:
        counts = f"{first} and {second}" if second else f"{first}"
        msg = f"{counts} of {total} images is not possible; at least one image is needed, and counts must not exceed it"
        raise InputError(msg)


def check_confidence(confidence: float, *, above: float) -> None:
    """Refuses a confidence outside (above, 1).

    Raises:
        InputError: The message gives the value and how to write 95%.
    """
    if not above < confidence < 1:
        msg = f"confidence = {confidence:g} is not between {above:g} and 1; write 0.95 for 95%"
        raise InputError(msg)
