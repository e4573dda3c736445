"""Groups runs with equal settings into rows, and compares each row with the first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tscnc_deploy.errors import InputError
from tscnc_deploy.report.comparison.runs import Result
from tscnc_deploy.report.comparison.seeds import Mean


@dataclass(frozen=True)
class Row:
    """Runs that differ only in their seeds.

    Attributes:
        label: Name of the recipe if that distinguishes the rows, otherwise the settings that differ.
        settings: The settings in which the rows differ.
        results: One result per seed, in the order of the seeds.
        loss: Robust accuracy of the first row minus this one's, over their common seeds; None for the first row.
    """

    label: str
    settings: Mapping[str, Any]
    results: tuple[Result, ...]
    loss: Mean | None

    def mean(self, figure: Callable[[Result], float | None]) -> Mean | None:
        """A figure over the seeds, for the runs that have it."""
        values = [value for result in self.results if (value := figure(result)) is not None]
        return Mean.of(values) if values else None

    @property
    def clean(self) -> Mean:
        """Clean accuracy over the seeds."""
        return Mean.of([result.clean.accuracy for result in self.results])

    @property
    def robust(self) -> Mean:
        """Robust accuracy over the seeds."""
        return Mean.of([result.robust.accuracy for result in self.results])

    @property
    def median_kappa(self) -> Mean | None:
        """Median condition number of the layers, over the seeds."""
        return self.mean(lambda result: result.median_kappa)

    @property
    def seconds(self) -> Mean | None:
        """Duration of pruning and fine-tuning; the dense training before them may be shared."""
        return self.mean(
            lambda result: (
                result.seconds["prune"] + result.seconds["finetune"]
                if {"prune", "finetune"} <= result.seconds.keys()
                else None
            )
        )

    def to_json(self) -> dict[str, Any]:
        """Means, the paired loss, and all runs."""
        return {
            "label": self.label,
            "settings": dict(self.settings),
            "clean": self.clean.to_json(),
            "robust": self.robust.to_json(),
            "robust_lost_to_first_row": self.loss and self.loss.to_json(),
            "median_kappa": self.median_kappa and self.median_kappa.to_json(),
            "seconds": self.seconds and self.seconds.to_json(),
            "runs": [result.to_json() for result in self.results],
        }


@dataclass(frozen=True)
class Comparison:
    """Rows in the order of the given runs, and what all runs share.

    Attributes:
        rows: At least one.
        settings: Settings of the recipe that are the same in all runs.
        attacks: Attacks on the engines, with their settings, that all runs share.
        environment: Versions and hardware that all runs share.
    """

    rows: tuple[Row, ...]
    settings: Mapping[str, Any]
    attacks: Mapping[str, Any]
    environment: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """The whole comparison, for other programs and for archiving."""
        return {
            "rows": [row.to_json() for row in self.rows],
            "settings": dict(self.settings),
            "attacks": dict(self.attacks),
            "environment": dict(self.environment),
        }


def compare_runs(results: Sequence[Result]) -> Comparison:
    """Groups runs with equal settings.

    Raises:
        InputError: There is no run, or two have the same settings and seed.
    """
    if not results:
        msg = "no run to compare; give at least one"
        raise InputError(msg)
    shared = _shared([result.settings for result in results])
    groups: dict[str, dict[int, Result]] = {}
    for result in results:
        seeds = groups.setdefault(repr([result.name, _differing(result, shared)]), {})
        if result.seed in seeds:
            msg = f"{seeds[result.seed].folder} and {result.folder} have the same settings and seed; give only one"
            raise InputError(msg)
        seeds[result.seed] = result
    names = [next(iter(seeds.values())).name for seeds in groups.values()]
    first = next(iter(groups.values()))
    rows = []
    for position, (name, seeds) in enumerate(zip(names, groups.values(), strict=True)):
        settings = _differing(next(iter(seeds.values())), shared)
        own_name = names.count(name) == 1
        told = ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in settings.items())
        both = [first[seed].robust.accuracy - seeds[seed].robust.accuracy for seed in first if seed in seeds]
        rows.append(
            Row(
                label=name if own_name or not told else f"{name}: {told}",
                settings=settings,
                results=tuple(seeds[seed] for seed in sorted(seeds)),
                loss=Mean.of(both) if position and both else None,
            )
        )
    return Comparison(
        rows=tuple(rows),
        settings=shared,
        attacks=_shared([result.attacks for result in results]),
        environment=_shared([result.environment for result in results]),
    )


def _shared(tables: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The entries that are the same in all tables."""
    first, *others = tables
    return {key: value for key, value in first.items() if all(key in o and o[key] == value for o in others)}


def _differing(result: Result, shared: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.settings.items() if key not in shared}
