"""The figures of a comparison, each as an SVG element; "" if there is nothing to draw."""

from __future__ import annotations

from collections.abc import Callable
from math import floor
from statistics import fmean

from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from tscnc_deploy.report import svg
from tscnc_deploy.report.axes import BLUE, LOOKS, RED, legend, new_drawing, percent_axis, short
from tscnc_deploy.report.comparison.rows import Comparison, Row
from tscnc_deploy.report.comparison.runs import Result
from tscnc_deploy.report.comparison.seeds import Mean
from tscnc_deploy.report.wording import figure, percent


def robust_plot(comparison: Comparison) -> str:
    """Clean and robust accuracy of each row: the mean with its interval, and a dot for each seed."""
    rows = comparison.rows
    with svg.style():
        drawing, axes = new_drawing(1.0 + 0.42 * len(rows))
        for kind, colour, marker in (("clean", BLUE, "s"), ("robust", RED, "D")):
            for position, row in enumerate(rows):
                seeds = [getattr(result, kind).accuracy for result in row.results]
                axes.scatter(seeds, [position + 0.22] * len(seeds), s=7, color=colour, alpha=0.5)
                mean: Mean = getattr(row, kind)
                axes.errorbar(
                    [mean.value], [position], xerr=mean.whiskers, fmt=marker, color=colour, markersize=5.5, capsize=3,
                    label="" if position else kind,
                )  # fmt: skip
        axes.set_yticks(range(len(rows)), [short(row.label) for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        lowest = min(row.robust.low for row in rows)
        percent_axis(axes, "x", start=max(floor(10 * lowest - 0.2) / 10, 0))
        axes.set_xlabel("accuracy of the engine; 95% intervals over seeds")
        legend(drawing, axes)
        told = "; ".join(f"{row.label}: {percent(row.robust.value)}" for row in rows)
        return svg.render(drawing, "robust", "Clean and robust accuracy", f"Robust: {told}.")


def kappa_plot(comparison: Comparison) -> str:
    """Median condition number of the layers after every epoch, mean over seeds, on a logarithmic axis."""
    drawn = {}
    for row in comparison.rows:
        lengths = {len(result.kappas) for result in row.results}
        steps = [[result.kappas[step][1] for result in row.results] for step in range(min(lengths, default=0))]
        means = [fmean(known) if (known := [k for k in step if k]) else float("nan") for step in steps]
        if any(mean == mean for mean in means):
            drawn[row.label] = means
    if not drawn:
        return ""
    with svg.style():
        drawing, axes = new_drawing(3.8)
        for position, (label, means) in enumerate(drawn.items()):
            colour, marker = LOOKS[position % len(LOOKS)]
            axes.plot(
                range(1, len(means) + 1), means, color=colour, marker=marker, markersize=4, label=short(label),
                linestyle="-" if position < len(LOOKS) else "--", linewidth=1.6,
            )  # fmt: skip
        axes.set_yscale("log")
        # Within a decade, powers of ten alone would leave the axis without labels.
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_locator(MaxNLocator(nbins=10, steps=[1, 2, 5, 10], integer=True))
        axes.set_ylabel("median condition number κ")
        axes.set_xlabel("epoch")
        legend(drawing, axes)
        told = "; ".join(f"{label} ends at {figure(means[-1])}" for label, means in drawn.items())
        return svg.render(drawing, "kappa", "Median condition number over the epochs", told + ".")


def sparsity_plot(comparison: Comparison) -> str:
    """Robust accuracy over the share of zeros, one line per recipe, if runs differ in it."""
    lines: dict[str, list[Row]] = {}
    for row in comparison.rows:
        others = {key: value for key, value in row.settings.items() if key != "prune.sparsity"}
        label = ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in others.items())
        lines.setdefault(label or "all", []).append(row)
    if all(len({row.results[0].sparsity for row in rows}) < 2 for rows in lines.values()):
        return ""
    with svg.style():
        drawing, axes = new_drawing(3.6)
        for position, (label, rows) in enumerate(lines.items()):
            ordered = sorted(rows, key=lambda row: row.results[0].sparsity)
            colour, marker = LOOKS[position % len(LOOKS)]
            means = [row.robust for row in ordered]
            ends = [[mean.value - mean.low for mean in means], [mean.high - mean.value for mean in means]]
            axes.errorbar(
                [row.results[0].sparsity for row in ordered], [mean.value for mean in means], yerr=ends,
                color=colour, marker=marker, markersize=5, capsize=3, linewidth=1.6, label=short(label),
            )  # fmt: skip
        percent_axis(axes, "y")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))
        axes.set_xlabel("zeros among the weights")
        axes.set_ylabel("robust accuracy")
        legend(drawing, axes)
        return svg.render(drawing, "sparsity", "Robust accuracy over sparsity", f"{len(lines)} lines.")


def pareto_plot(
    comparison: Comparison, name: str, what: str, of: Callable[[Result], float | None], unit: float = 1.0
) -> str:
    """Robust accuracy of each row against its cost, if rows differ in it."""
    costs = {row.label: (mean.value / unit, row.robust.value) for row in comparison.rows if (mean := row.mean(of))}
    known = [cost for cost, _ in costs.values()]
    # Equal shares of zeros compress to nearly equal sizes, so the plot would not distinguish rows.
    if not known or max(known) < 1.05 * min(known):
        return ""
    with svg.style():
        drawing, axes = new_drawing(3.4)
        for position, (label, (cost, robust)) in enumerate(costs.items()):
            colour, marker = LOOKS[position % len(LOOKS)]
            # After the last style they repeat with hollow markers.
            filled = "full" if position < len(LOOKS) else "none"
            axes.plot(
                [cost], [robust], marker=marker, color=colour, fillstyle=filled, markersize=7, linestyle="",
                label=short(label),
            )  # fmt: skip
        axes.set_xlim(0, 1.06 * max(known))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))
        axes.set_xlabel(what)
        axes.set_ylabel("robust accuracy")
        legend(drawing, axes)
        best = max(costs, key=lambda label: costs[label][1])
        return svg.render(drawing, name, f"Robust accuracy against {what}", f"The most robust: {best}.")
