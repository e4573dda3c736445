"""How far an evaluation has come, reckoned in passes through the network, since attacks differ a thousandfold."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tscnc_deploy.robustness.attacks.base import Attack
from tscnc_deploy.robustness.evaluation import Evaluation, Progress

ShardProgress = Callable[[str, int, int, Evaluation | None], None]
"""Called with the attack in progress, images' worth of work done, all images, and the shards known so far, joined."""

# A pass forward and one back to the images, in forward passes.
_GRADIENT = 2


def passes(attack: Attack) -> int:
    """About how many forward passes an attack takes for an image that stays robust to the end."""
    settings = attack.settings()

    def number(key: str) -> int:
        value = settings.get(key, 1)
        return value if isinstance(value, int) else 1

    if attack.needs_gradient:
        return _GRADIENT * number("steps") * number("restarts") * number("targets")
    return number("queries")


class Work:
    """Turns the progress of single attacks on single shards into that of the whole evaluation.

    Args:
        attacks: In the order in which they run.
        images: Number of all images.
        report: Where to; None reports nothing.
    """

    def __init__(self, attacks: Sequence[Attack], images: int, report: ShardProgress | None) -> None:
        self._costs = {"clean": 1, **{attack.name: passes(attack) for attack in attacks}}
        self._images = images
        self._report: ShardProgress = report or _silent
        self._known: Evaluation | None = None

    def within(self, start: int, size: int) -> Progress:
        """What `evaluate` reports to, for the shard of so many images that begins at a place."""
        size = min(size, self._images - start)
        total = sum(self._costs.values())

        def progress(name: str, done: int, of: int) -> None:
            names = list(self._costs)
            before = sum(self._costs[earlier] for earlier in names[: names.index(name)])
            share = (before + self._costs[name] * done / max(of, 1)) / total
            self._report(name, start + int(size * share), self._images, self._known)

        return progress

    def finished(self, known: Evaluation) -> None:
        """Takes note of all shards so far, joined."""
        self._known = known
        self._report("", known.clean.total, self._images, known)


def _silent(_name: str, _done: int, _total: int, _known: Evaluation | None) -> None:
    """Progress that nobody asked for."""
