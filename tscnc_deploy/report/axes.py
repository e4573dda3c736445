"""Shared by the report's figures: width, colours, axes, legends."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

WIDTH = 6.2

# The Okabe-Ito palette, which is distinguishable with any colour vision, with a marker for each colour.
GREY, BLUE, RED, GREEN, PURPLE, ORANGE = "#5f6b74", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00"
LOOKS = [(GREY, "o"), (BLUE, "s"), (RED, "D"), (GREEN, "^"), (PURPLE, "v"), (ORANGE, "P")]


def new_drawing(height: float) -> tuple[Figure, Axes]:
    """An empty figure with a height in inches, created inside `svg.style()`, and its axes."""
    drawing = Figure(figsize=(WIDTH, height))
    return drawing, drawing.add_subplot()


def percent_axis(axes: Axes, which: str, *, start: float = 0.0, end: float = 1.0) -> None:
    """The axis "x" or "y" for shares from `start` to `end`, labelled in percent."""
    axis, set_limits = (axes.xaxis, axes.set_xlim) if which == "x" else (axes.yaxis, axes.set_ylim)
    axis.set_ticks([tick / 10 for tick in range(round(10 * start), 11, 2 if start < 0.5 else 1)])
    set_limits(start, end)
    axis.set_major_formatter(PercentFormatter(1, decimals=0))


def short(name: str) -> str:
    """A name shortened to fit beside an axis; the end of a layer's name is kept because it is distinctive."""
    return name if len(name) <= 32 else "…" + name[-31:]


def legend(drawing: Figure, axes: Axes) -> None:
    """A legend above the axes, if there is more than one entry."""
    handles, labels = axes.get_legend_handles_labels()
    if len(handles) > 1:
        drawing.legend(handles, labels, loc="outside upper left", ncols=3, handlelength=1.6)
