"""Decides gates as soon as the images so far allow it, with the same confidence as with all images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binom

from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness.statistics.intervals import check_confidence, check_counts

Decision = Literal["passed", "failed", "undecided"]


@dataclass(frozen=True)
class GateTest:
    """Tests repeatedly whether the true share of correct images is at least the limit, with a single decision.

    This is a group-sequential exact binomial test. At a confidence of 95% the probability of passing a share below the
    limit is at most 2.5% over all looks together, and so is that of failing a share above it, as with the two-sided
    Clopper-Pearson interval of a single look. Up to each look, the fraction of these 2.5% that may be spent is the
    fraction of all images seen so far (linear spending). The bounds follow by recursion over the binomial counts at the
    limit; a path that passes at one share passes no later at a higher one, so no share below the limit passes more
    often.

    The order of the images must not depend on the outcomes; use a random order, for example. The first decision is
    final.

    Attributes:
        limit: Share in (0, 1).
        looks: Increasing numbers of images after which to test; the last is the number of all images.
        confidence: In (0.5, 1).

    Raises:
        InputError: Limit, looks or confidence out of range.

    Source: Lan and DeMets, "Discrete sequential boundaries for clinical trials", Biometrika 70:659-663, 1983; Jennison
    and Turnbull, "Confidence intervals for a binomial parameter following a multistage test with application to
    MIL-STD 105D and medical trials", Technometrics 25:49-58, 1983.
    """

    limit: float
    looks: tuple[int, ...]
    confidence: float = 0.95

    def __post_init__(self) -> None:
        check_confidence(self.confidence, above=0.5)
        if not 0 < self.limit < 1:
            msg = f"limit = {self.limit:g} is not between 0 and 1, so a test cannot decide it"
            raise InputError(msg)
        if not self.looks or any(first >= second for first, second in pairwise((0, *self.looks))):
            msg = f"looks = {list(self.looks)} are not increasing positive numbers of images"
            raise InputError(msg)

    def decide(self, correct: int, total: int) -> Decision:
        """The decision if `correct` of the first `total` images are correct; undecided between looks.

        Raises:
            InputError: Impossible counts.
        """
        self._check(correct, total)
        if total not in self.looks:
            return "undecided"
        low, high = self._bounds[self.looks.index(total)]
        if correct >= high:
            return "passed"
        return "failed" if correct <= low else "undecided"

    def interval(self, correct: int, total: int) -> tuple[float, float]:
        """Two-sided interval of the true share after an evaluation that ended with `correct` of `total` images.

        It has at least the given confidence, whether the test ended the evaluation or something that does not depend on
        the outcomes (a budget, an interruption). If the test passed, the lower end is at least the limit; if it failed,
        the upper end is at most the limit. With a single look it is the Clopper-Pearson interval. An end is the share
        at which outcomes at least as extreme have half of the allowed probability; outcomes are ordered by how early
        they pass, then by count.

        Raises:
            InputError: Impossible counts.
        """
        self._check(correct, total)
        tail = (1 - self.confidence) / 2

        def above(share: float) -> float:
            return self._tails(share, correct, total)[0] - tail

        def below(share: float) -> float:
            return self._tails(share, correct, total)[1] - tail

        low = brentq(above, 0, 1, xtol=1e-12) if above(0) < 0 else 0.0
        high = brentq(below, 0, 1, xtol=1e-12) if below(1) < 0 else 1.0
        return float(low), float(high)

    @cached_property
    def _bounds(self) -> list[tuple[int, int]]:
        """For each look, the largest count that fails and the smallest that passes."""
        bounds = []
        state, passed, failed = _START, 0.0, 0.0
        for look in self.looks:
            state = state.grown(look, self.limit)
            spendable = (1 - self.confidence) / 2 * look / self.looks[-1]
            low, high = state.last_rare(spendable - failed), state.first_rare(spendable - passed)
            passed, failed = passed + state.at_least(high), failed + state.at_most(low)
            state = state.between(low, high)
            bounds.append((low, high))
        return bounds

    def _tails(self, share: float, correct: int, total: int) -> tuple[float, float]:
        """Probabilities, at a share, of outcomes at least as high as and at most as high as `correct` of `total`."""
        state, above, below = _START, 0.0, 0.0
        for look, (low, high) in zip(self.looks, self._bounds, strict=True):
            if look >= total:
                break
            state = state.grown(look, share)
            above, below = above + state.at_least(high), below + state.at_most(low)
            state = state.between(low, high)
        state = state.grown(total, share)
        return above + state.at_least(correct), below + state.at_most(correct)

    def _check(self, correct: int, total: int) -> None:
        check_counts(correct, 0, total)
        if total > self.looks[-1]:
            msg = f"{total} images are more than the {self.looks[-1]} of the last look"
            raise InputError(msg)


@dataclass(frozen=True)
class _Undecided:
    """Joint probability of each count of correct images and of no decision so far.

    Attributes:
        total: Images so far.
        first: The count of the first weight.
        weights: One probability per count from `first` on.
    """

    total: int
    first: int
    weights: NDArray[np.float64]

    def grown(self, total: int, share: float) -> _Undecided:
        """The state after more images up to `total`, each correct with probability `share`."""
        images = total - self.total
        added = binom.pmf(np.arange(images + 1), images, share)
        return _Undecided(total, self.first, np.convolve(self.weights, added))

    def between(self, low: int, high: int) -> _Undecided:
        """Removes the counts up to `low` and from `high` on."""
        first = max(low + 1, self.first)
        return _Undecided(self.total, first, self.weights[first - self.first : high - self.first])

    def at_least(self, count: int) -> float:
        return float(self.weights[max(count - self.first, 0) :].sum())

    def at_most(self, count: int) -> float:
        return float(self.weights[: max(count + 1 - self.first, 0)].sum())

    def first_rare(self, chance: float) -> int:
        """The smallest count that is reached with at most this probability."""
        return self.first + int((self.weights[::-1].cumsum()[::-1] > chance).sum())

    def last_rare(self, chance: float) -> int:
        """The largest count that is not exceeded with at most this probability."""
        return self.first + int((self.weights.cumsum() <= chance).sum()) - 1


_START = _Undecided(0, 0, np.ones(1))
