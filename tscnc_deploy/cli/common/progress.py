"""Progress of a build: a bar on a terminal, plain lines elsewhere; always on standard error."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from tscnc_deploy.progress import BOUNDS, Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

# Without a terminal, lines end up in a log: frequent enough to show activity, rare enough to read.
PLAIN_SECONDS = 10.0
# Work that reports no steps, such as an export, must not look as if it hung.
SILENT_SECONDS = 60.0


@contextmanager
def build_progress() -> Iterator[Progress]:
    """The progress display for the current standard error."""
    if not sys.stderr.isatty():
        plain = PlainProgress()
        with _reminded(plain):
            yield plain
        return
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    console = Console(stderr=True)

    class Line(ProgressColumn):
        """All of the line, as columns would be cut where they do not fit."""

        def render(self, task: Task) -> Text:
            share = (task.completed / task.total) if task.total else 0.0
            parts = (task.fields["detail"], *task.fields["figures"])
            left = str(task.fields["pace"])
            line = bar_line(task.description, share, left, parts, console.width, plain=console.options.ascii_only)
            return Text(line, no_wrap=True, overflow="crop")

    with Bars(Line(), console=console) as bars:
        yield BarProgress(bars)


def bar_line(place: str, share: float, left: str, parts: tuple[str, ...], width: int, *, plain: bool = False) -> str:
    """A line of at most `width` characters: stage, bar, percent, time left, and as many parts as fit, from the left.

    Percent and time left are never cut: on a narrow terminal parts are left out, then the stage's name is shortened.

    Args:
        place: Stage and label.
        share: The share that is done, in [0, 1].
        left: The time left.
        parts: What is being done, and figures; empty ones are left out.
        width: Of the terminal, in characters.
        plain: Whether the terminal shows nothing but ASCII.
    """
    length = 24 if width >= 110 else 12 if width >= 70 else 6
    full = round(length * share)
    done, open_, cut = "#-~" if plain else "━╌…"
    rest = f" {done * full}{open_ * (length - full)} {int(100 * share):3}% {left}"
    space = width - len(rest)
    if len(place) > space:
        place = place[: max(space - 1, 0)] + cut
    line = (place + rest)[-width:]
    for part in filter(None, parts):
        if len(line) + 2 + len(part) > width:
            break
        line += f"  {part}"
    return line


def show_figures(figures: Mapping[str, float]) -> tuple[str, ...]:
    """Figures in the form "loss 0.412", "clean 98.6%"."""
    shares = ("clean", "robust", "sparsity", *BOUNDS)
    return tuple(f"{name} {value:.1%}" if name in shares else f"{name} {value:.3g}" for name, value in figures.items())


def show_seconds(seconds: float) -> str:
    """Seconds as "4.2 s", "3 min 05 s" or "2 h 07 min"."""
    return f"{seconds:.1f} s" if seconds < 100 else _whole_seconds(seconds)


def _whole_seconds(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"


class _Pace:
    """The time left of a stage or of a part of it, from the steps since it was first seen.

    A resumed stage does not start at zero, and steps of an earlier run say nothing about this one.
    """

    def __init__(self, done: int) -> None:
        self._first, self._started = done, time.monotonic()
        self._end: float | None = None

    def step(self, done: int, total: int) -> None:
        """Estimates the end anew."""
        made, now = done - self._first, time.monotonic()
        self._end = now + (now - self._started) / made * (total - done) if made > 0 else None

    def __str__(self) -> str:
        """The time left, or the time so far while there is no estimate."""
        now = time.monotonic()
        if self._end is None:
            return f"{_whole_seconds(now - self._started)} so far"
        return f"{_whole_seconds(max(self._end - now, 0))} left"


class BarProgress:
    """One bar per stage, and per engine within it."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._stage = ""
        self._tasks: dict[str, int] = {}
        self._pace = _Pace(0)

    def start(self, stage: str, position: int, stages: int) -> None:
        self._stage, self._tasks = f"[{position}/{stages}] {stage}", {}

    def step(self, done: int, total: int, figures: Mapping[str, float], label: str = "", detail: str = "") -> None:
        description = f"{self._stage} {label}".rstrip()
        if description not in self._tasks:
            # A new label means that the previous one has ended: remove its line, keep the stage's summary.
            for task in self._tasks.values():
                self._bars.remove_task(task)  # type: ignore[arg-type]
            self._pace = _Pace(done)
            task = self._bars.add_task(description, figures=(), detail="", pace=self._pace)
            self._tasks = {description: task}
        self._pace.step(done, total)
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
        self._stage = self._label = self._place = ""
        self._shown = self._began = 0.0
        self._pace: _Pace | None = None
        # Of the reminders, which another thread prints.
        self._lock = threading.Lock()

    def start(self, stage: str, position: int, stages: int) -> None:
        with self._lock:
            self._stage = self._place = f"[{position}/{stages}] {stage}"
            self._shown, self._pace = 0.0, None
            self._began = time.monotonic()

    def step(self, done: int, total: int, figures: Mapping[str, float], label: str = "", detail: str = "") -> None:
        now = time.monotonic()
        if self._pace is None or label != self._label:
            self._pace, self._label = _Pace(done), label
        self._pace.step(done, total)
        if now - self._shown < PLAIN_SECONDS:
            return
        with self._lock:
            self._shown = now
            self._place = f"{self._stage} {label}".rstrip() + f" {done}/{total}"
            self._print(self._place, *show_figures(figures), detail, str(self._pace))

    def remind(self) -> None:
        """Prints where the work is if nothing was printed for a minute."""
        with self._lock:
            now = time.monotonic()
            if self._stage and now - max(self._shown, self._began) >= SILENT_SECONDS:
                self._shown = now
                self._print(self._place, f"at work, {show_seconds(now - self._began)} so far")

    def finish(self, stage: str, *, cached: bool, seconds: float) -> None:
        with self._lock:
            self._print(_finished(self._stage, cached, seconds))
            self._stage = ""

    def _print(self, *parts: str) -> None:
        print("  ".join(filter(None, parts)), file=sys.stderr, flush=True)


@contextmanager
def _reminded(plain: PlainProgress) -> Iterator[None]:
    ended = threading.Event()

    def remind() -> None:
        # What cannot be written is an error of the work's own lines, not of the reminders.
        with suppress(OSError, ValueError):
            while not ended.wait(PLAIN_SECONDS):
                plain.remind()

    thread = threading.Thread(target=remind, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _finished(stage: str, cached: bool, seconds: float) -> str:
    return f"{stage}: {'reused' if cached else 'done in ' + show_seconds(seconds)}"
