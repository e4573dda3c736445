"""Progress of an evaluation, measured in forward passes, because the cost of attacks differs a thousandfold."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tscnc_deploy.progress import BOUNDS, Progress
from tscnc_deploy.robustness.attacks.base import Attack, calls
from tscnc_deploy.robustness.evaluation import Evaluation
from tscnc_deploy.robustness.evaluation import Progress as AttackProgress

ShardProgress = Callable[[str, int, int, Evaluation | None], None]
"""Called with the current attack, the work done in images, the number of images, and the joined shards so far."""

# Cost of a forward pass and a backward pass to the images, in forward passes.
_GRADIENT = 2


def shards_shown_by(progress: Progress, label: str = "") -> ShardProgress:
    """Reports shards as steps of a stage, or of its part `label`, with the bounds of robust accuracy so far."""

    def show(attack: str, done: int, total: int, known: Evaluation | None) -> None:
        bounds = dict(zip(BOUNDS, (known.robust.low, known.robust.high), strict=True)) if known else {}
        progress.step(done, total, bounds, label, attack)

    return show


def passes(attack: Attack) -> int:
    """Approximate number of forward passes that an attack takes for an image that stays robust."""
    return (_GRADIENT if attack.needs_gradient else 1) * calls(attack)


class Work:
    """Converts the progress of single attacks on single shards into that of the whole evaluation.

    Args:
        attacks: The attacks, in order.
        images: Number of all images.
        report: Receives the progress; None reports nothing.
    """

    def __init__(self, attacks: Sequence[Attack], images: int, report: ShardProgress | None) -> None:
        self._costs = {"clean": 1, **{attack.name: passes(attack) for attack in attacks}}
        self._images = images
        self._report: ShardProgress = report or _silent
        self._known: Evaluation | None = None

    def within(self, start: int, size: int) -> AttackProgress:
        """The progress callback of `evaluate` for a shard of `count` images."""
        size = min(size, self._images - start)
        total = sum(self._costs.values())

        def progress(name: str, done: int, of: int) -> None:
            names = list(self._costs)
            before = sum(self._costs[earlier] for earlier in names[: names.index(name)])
            share = (before + self._costs[name] * done / max(of, 1)) / total
            self._report(name, start + int(size * share), self._images, self._known)

        return progress

    def finished(self, known: Evaluation) -> None:
        """Records all shards so far, joined."""
        self._known = known
        self._report("", known.clean.total, self._images, known)


def _silent(_name: str, _done: int, _total: int, _known: Evaluation | None) -> None:
    """Ignores the progress."""
