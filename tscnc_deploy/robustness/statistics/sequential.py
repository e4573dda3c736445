"""Gates that are decided as soon as the images seen so far allow it, at the confidence that all images would give."""

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
    """Is the true share of images that stand at least the limit? Asked several times, answered once.

    A group-sequential exact binomial test. At a confidence of 95% the probability of passing a share below the limit is
    at most 2.5% over all looks together, and so is that of failing a share above it, as with the two-sided
    Clopper-Pearson interval of a single look. Of these 2.5% each look may have spent the share of all images that were
    seen by then (linear spending). The bounds follow by recursion over the binomial counts at the limit; a path that
    passes at one share passes no later at a higher one, so no share below the limit passes more often.

    The images must come in an order that does not depend on the outcomes, such as a random one, and the first decision
    stands.

    Attributes:
        limit: Share in (0, 1).
        looks: Numbers of images, rising, after which the question is asked; the last is that of all images.
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
            msg = f"limit = {self.limit:g} is not a share between 0 and 1, which a test could find kept or broken"
            raise InputError(msg)
        if not self.looks or any(first >= second for first, second in pairwise((0, *self.looks))):
            msg = f"looks = {list(self.looks)} are not rising numbers of images from 1 up"
            raise InputError(msg)

    def decide(self, correct: int, total: int) -> Decision:
        """The answer when `correct` of the first `total` images stand; between looks there is none.

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
        """Two-sided interval of the true share after the evaluation ended with `correct` of `total` images.

        It covers the share at least as often as the confidence says, wherever the test, or something that does not
        depend on the outcomes (a budget, a kill), ended the evaluation. If the test passed, the lower end reaches the
        limit; if it failed, the upper end does not exceed it. With a single look it is Clopper and Pearson's. An end is
        the share at which an outcome at least as extreme has half of the allowed probability; passing earlier is the
        more extreme, then the count.

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
        """For every look, the largest count that fails and the smallest that passes."""
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
        """Probability at a share of outcomes at least as high as, and at most as high as, `correct` of `total`."""
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
    """Probability of each count of correct images, together with that of no decision so far.

    Attributes:
        total: Images so far.
        first: The count that the first weight belongs to.
        weights: One probability per count from `first` on.
    """

    total: int
    first: int
    weights: NDArray[np.float64]

    def grown(self, total: int, share: float) -> _Undecided:
        """After further images, each correct with probability `share`, up to `total`."""
        images = total - self.total
        added = binom.pmf(np.arange(images + 1), images, share)
        return _Undecided(total, self.first, np.convolve(self.weights, added))

    def between(self, low: int, high: int) -> _Undecided:
        """Without the counts up to `low` and from `high` on."""
        first = max(low + 1, self.first)
        return _Undecided(self.total, first, self.weights[first - self.first : high - self.first])

    def at_least(self, count: int) -> float:
        return float(self.weights[max(count - self.first, 0) :].sum())

    def at_most(self, count: int) -> float:
        return float(self.weights[: max(count + 1 - self.first, 0)].sum())

    def first_rare(self, chance: float) -> int:
        """The smallest count that is reached or exceeded with at most this probability."""
        return self.first + int((self.weights[::-1].cumsum()[::-1] > chance).sum())

    def last_rare(self, chance: float) -> int:
        """The largest count that is not exceeded with at most this probability."""
        return self.first + int((self.weights.cumsum() <= chance).sum()) - 1


_START = _Undecided(0, 0, np.ones(1))
