"""Decides when an evaluation may end before the last image."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness.case import GateDecision, Share
from tscnc_deploy.robustness.evaluation import Evaluation
from tscnc_deploy.robustness.statistics.sequential import GateTest
from tscnc_deploy.verify.budget import Budget

CONFIDENCE = 0.95
# How fast the parts of the first round grow: slowly, because an image may cost much more than those before it.
_GROWTH = 4
# Fewer images than this are no round of their own, unless they are all that is left.
_LEAST = 32


class Stopping:
    """Ends an evaluation when its budget does not allow more images, or when all gates are decided; see `Stop`.

    A round starts only if it fits into the budget at the cost of the most expensive round so far; the last one has as
    many images as fit, if they are worth a round. Nothing is known of the cost before the first image, so with a budget
    the first round is divided: one image, which always runs, and then four times as many images as before, or as many
    as fit at the cost of the part before, until it is complete. This depends on how long images take, and hardly on
    their outcomes.

    Gates are decided by group-sequential tests (`GateTest`), which look after `first`, twice `first`, ... and all
    images; all other intervals must then hold at every look, so each look gets its share of the 5% (Bonferroni).

    Args:
        total: Number of all images, in an order in which every prefix is representative.
        budget: The budget; None means no limit.
        limits: Minimum clean and robust accuracy, in (0, 1), if their decision ends the evaluation; None otherwise.
        first: Images before the first look, a multiple of a round.
        round_images: Images per round.
        workers: Number of shards that are evaluated at the same time.
        reserve: Share of the budget, in [0, 1), that is reserved for work after the attacks, see `affords`.
    """

    def __init__(
        self,
        total: int,
        *,
        budget: Budget | None = None,
        limits: Mapping[Share, float] | None = None,
        first: int = 64,
        round_images: int = 64,
        workers: int = 1,
        reserve: float = 0.0,
    ) -> None:
        self._total = total
        self._budget = budget or Budget()
        self._reserve = reserve
        self._round = round_images
        self._workers = workers
        self._started = time.monotonic()
        # Images, queries and seconds so far; queries and seconds per image of the most expensive round.
        self._seen, self._dearest = (0, 0, 0.0), (0.0, 0.0)
        # Images of the next part of a round; None is the whole of it.
        self._part: int | None = 1
        self._tests: dict[Share, GateTest] = {}
        self.decisions: dict[Share, GateDecision] = {}
        self.reason: str | None = None
        if limits:
            looks = tuple(doubling_looks(total, first))
            self._tests = {what: GateTest(limit, looks, CONFIDENCE) for what, limit in limits.items()}

    @property
    def confidence(self) -> float:
        """Confidence of the intervals that are shown, chosen so that they hold wherever the evaluation ends."""
        looks = max((len(test.looks) for test in self._tests.values()), default=1)
        return 1 - (1 - CONFIDENCE) / looks

    def __call__(self, known: Evaluation) -> bool:
        """Whether to end, given the results so far; sets `reason` if that is before the last image."""
        self._decide(known)
        seen = known.clean.total
        if seen >= self._total:
            return True
        if self._tests and len(self.decisions) == len(self._tests):
            self.reason = "every gate is decided"
        elif self._is_spent(known):
            self.reason = "the budget is spent"
        return self.reason is not None

    def _decide(self, known: Evaluation) -> None:
        for what, test in self._tests.items():
            if what in self.decisions:
                continue  # the first decision is final
            share = getattr(known, what)
            decision = test.decide(share.correct, share.total)
            if decision != "undecided" or share.total == self._total:
                interval = test.interval(share.correct, share.total)
                self.decisions[what] = GateDecision(test.limit, decision, share.total, *interval)

    def round_size(self, known: Evaluation | None) -> int | None:
        """Largest number of images of the next round, given the results so far; None means a whole round."""
        if self._budget == Budget():
            return None
        if known is None:
            return 1
        return self._part

    def _is_spent(self, known: Evaluation) -> bool:
        queries, seconds = sum(known.queries.values()), sum(known.seconds.values()) / self._workers
        images = known.clean.total
        last = max(images - self._seen[0], 1)
        latest = (queries - self._seen[1]) / last, (seconds - self._seen[2]) / last
        # Seconds per image fall while the first round's parts grow, as a batch takes less than its images alone.
        in_first = images <= self._round
        self._dearest = (
            max(self._dearest[0], latest[0]),
            latest[1] if in_first else max(self._dearest[1], latest[1]),
        )
        self._seen = images, queries, seconds
        # Shards of an earlier attempt count as spent, so that an interrupted evaluation does not get its budget twice.
        elapsed = max(time.monotonic() - self._started, seconds)
        bounds, part = self._budget, 1 - self._reserve
        left = [
            (part * bound - spent) / cost if cost else math.inf
            for bound, spent, cost in (
                (bounds.queries, queries, self._dearest[0]),
                (bounds.seconds, elapsed, self._dearest[1]),
            )
            if bound is not None
        ]
        fits = min(left, default=math.inf)
        if images < self._round:
            upcoming = min(_GROWTH * images, self._round, self._total) - images
            self._part = int(min(fits, upcoming))
            return fits < 1
        upcoming = min(self._round, self._total - images)
        self._part = int(fits) if fits < upcoming else None
        return fits < min(_LEAST, upcoming)

    def affords(self, known: Evaluation, queries: int, besides: int = 0) -> int | None:
        """Number of images for which the rest of the budget, including the reserve, is enough; None means no limit.

        Args:
            known: The results so far; a query is assumed to take the mean time of its queries.
            queries: Number of queries per image, at least 1.
            besides: Number of queries already spent that `known` does not count, such as those of a search for signs.
        """
        spent, seconds = sum(known.queries.values()), sum(known.seconds.values()) / self._workers
        each = seconds / max(spent, 1)
        elapsed = max(time.monotonic() - self._started, seconds + besides * each)
        images = []
        if self._budget.queries is not None:
            images.append((self._budget.queries - spent - besides) / queries)
        if self._budget.seconds is not None:
            images.append((self._budget.seconds - elapsed) / (queries * each or math.inf))
        return max(int(min(images)), 0) if images else None


def doubling_looks(total: int, first: int = 64) -> list[int]:
    """The looks of a sequential test: after `first` images, twice as many, and so on, and after all.

    Few looks cost little power: gates that a single look at all images would decide half of the time are decided about
    44% of the time, and easy gates are decided by the first or second look.

    Raises:
        InputError: Fewer than one image.
    """
    if total < 1 or first < 1:
        msg = f"{total} images with a first look after {first} are not possible; both must be at least 1"
        raise InputError(msg)
    looks = []
    while first < total:
        looks.append(first)
        first *= 2
    return [*looks, total]
