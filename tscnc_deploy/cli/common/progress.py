"""Progress of a build: bars on a terminal, plain lines elsewhere; always on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tscnc_deploy.progress import BOUNDS, Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

# Without a terminal, lines end up in a log: frequent enough to show activity, rare enough to read.
PLAIN_SECONDS = 10.0


@contextmanager
def build_progress() -> Iterator[Progress]:
    """The progress display for the current standard error."""
    if not sys.stderr.isatty():
        yield PlainProgress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[figures]}"),
        TextColumn("{task.fields[detail]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True)) as bars:
        yield BarProgress(bars)


def show_figures(figures: Mapping[str, float]) -> str:
    """Figures in the form "loss 0.412  clean 98.6%  robust 88.2%  sparsity 95.0%  kappa 6.1"."""
    shares = ("clean", "robust", "sparsity", *BOUNDS)
    parts = [f"{name} {value:.1%}" if name in shares else f"{name} {value:.3g}" for name, value in figures.items()]
    return "  ".join(parts)


def show_seconds(seconds: float) -> str:
    """Seconds as "4.2 s" or "3 min 05 s"."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"


class BarProgress:
    """One bar per stage, and per engine within it."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._stage = ""
        self._tasks: dict[str, int] = {}

    def start(self, stage: str, position: int, stages: int) -> None:
        self._stage, self._tasks = f"[{position}/{stages}] {stage}", {}

    def step(self, done: int, total: int, figures: Mapping[str, float], label: str = "", detail: str = "") -> None:
        description = f"{self._stage} {label}".rstrip()
        if description not in self._tasks:
            # A new label means that the previous one has ended: remove its line, keep the stage's summary.
            for task in self._tasks.values():
                self._bars.remove_task(task)  # type: ignore[arg-type]
            self._tasks = {description: self._bars.add_task(description.replace("[", r"\["), figures="", detail="")}
        self._bars.update(
            self._tasks[description],  # type: ignore[arg-type]
            completed=done,
            total=total,
            figures=show_figures(figures),
            detail=detail,
        )

    def finish(self, stage: str, *, cached: bool, seconds: float) -> None:
        for task in self._tasks.values():
            self._bars.remove_task(task)  # type: ignore[arg-type]
        self._bars.console.print(_finished(self._stage, cached, seconds), markup=False, highlight=False)


class PlainProgress:
    """A line at the first step of a stage or of a part of it, at the end of the stage, and every ten seconds."""

    def __init__(self) -> None:
        self._stage = self._label = ""
        self._shown = self._started = 0.0
        self._first = -1

    def start(self, stage: str, position: int, stages: int) -> None:
        self._stage = f"[{position}/{stages}] {stage}"
        self._shown, self._first = 0.0, -1

    def step(self, done: int, total: int, figures: Mapping[str, float], label: str = "", detail: str = "") -> None:
        now = time.monotonic()
        if self._first < 0 or label != self._label:
            # A resumed stage does not start at zero: estimate the remaining time from the steps of this run.
            self._first, self._started, self._label = done, now, label
        if now - self._shown < PLAIN_SECONDS:
            return
        self._shown = now
        made = done - self._first
        left = f"{show_seconds((now - self._started) / made * (total - done))} left" if made else ""
        place = f"{self._stage} {label}".rstrip()
        parts = (f"{place} {done}/{total}", show_figures(figures), detail, left)
        print("  ".join(part for part in parts if part), file=sys.stderr, flush=True)

    def finish(self, stage: str, *, cached: bool, seconds: float) -> None:
        print(_finished(self._stage, cached, seconds), file=sys.stderr, flush=True)


def _finished(stage: str, cached: bool, seconds: float) -> str:
    return f"{stage}: {'reused' if cached else 'done in ' + show_seconds(seconds)}"
