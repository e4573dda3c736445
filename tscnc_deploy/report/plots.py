"""The figures of the report, each as an SVG element; "" if there is nothing to draw."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from math import floor
from statistics import median

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from tscnc_deploy.record import BuildRecord, Epoch, Layer
from tscnc_deploy.report import svg
from tscnc_deploy.report.axes import BLUE, GREY, LOOKS, RED, legend, new_drawing, percent_axis, short
from tscnc_deploy.report.wording import figure, percent

SHADES = {"train": "#f4f6f7", "prune": "#e3ebf1", "finetune": "#f1f4ee"}


def accuracy_plot(data: BuildRecord) -> str:
    """Accuracy of each model on clean images, under each attack and in the worst case, with 95% intervals."""
    named, rows = data.evaluations.named, data.evaluations.rows
    if not rows:
        return ""
    with svg.style():
        drawing, axes = new_drawing(0.9 + len(rows) * (0.24 + 0.16 * len(named)))
        for place, (name, evaluation) in enumerate(named.items()):
            found = evaluation.rows
            heights, shares = [], []
            for position, row in enumerate(rows):
                if row in found:
                    sharing = [other for other, with_row in enumerate(named.values()) if row in with_row.rows]
                    heights.append(position + 0.24 * (sharing.index(place) - (len(sharing) - 1) / 2))
                    shares.append(found[row])
            colour, marker = LOOKS[place % len(LOOKS)]
            axes.errorbar(
                [share.accuracy for share in shares],
                heights,
                xerr=[
                    [max(share.accuracy - share.low, 0) for share in shares],
                    [max(share.high - share.accuracy, 0) for share in shares],
                ],
                fmt=marker,
                color=colour,
                markersize=5.5,
                elinewidth=1.6,
                capsize=3,
                label=short(name),
            )
        for line in range(1, len(rows)):
            axes.axhline(line - 0.5, color="#c9d0d5", linewidth=0.8)
        axes.set_yticks(range(len(rows)), [short(row) for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        # Dots, unlike bars, do not need an axis from zero; a margin of a tenth keeps the lowest whisker off the edge.
        lowest = min(share.low for evaluation in named.values() for share in evaluation.rows.values())
        percent_axis(axes, "x", start=max(floor(10 * lowest - 0.5) / 10, 0))
        axes.set_xlabel("accuracy, with its 95% interval")
        legend(drawing, axes)
        return svg.render(
            drawing,
            "accuracy",
            "Accuracy on clean images, under each attack, and in the worst case",
            f"Dots with whiskers for {', '.join(named)}; the table below holds the same figures.",
        )


def sparsity_plot(layers: Sequence[Layer]) -> str:
    """Share of zeros in each layer, in the order of the network."""
    shown = [(short(layer.label), layer.sparsity) for layer in layers if layer.sparsity is not None]
    if not shown:
        return ""
    with svg.style():
        drawing, axes = new_drawing(0.8 + 0.21 * len(shown))
        names, shares = zip(*shown, strict=True)
        bars = axes.barh(range(len(shown)), shares, color=BLUE, height=0.72)
        axes.bar_label(bars, labels=[percent(share) for share in shares], padding=4, fontsize=9, color="#1c2329")
        axes.set_yticks(range(len(shown)), names, fontsize=9)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        percent_axis(axes, "x", end=1.09)
        axes.set_xlabel("zeros among the layer's weights")
        extremes = f"{percent(min(shares))} to {percent(max(shares))}"
        return svg.render(drawing, "sparsity", "Sparsity of every layer", f"{len(shown)} layers, {extremes}.")


def kappa_plot(history: Sequence[Epoch]) -> str:
    """Condition number of each layer after each epoch, and their median, on a logarithmic axis."""
    names = dict.fromkeys(name for epoch in history for name in epoch.kappa)
    known = [[value for value in epoch.kappa.values() if value is not None and value > 0] for epoch in history]
    if not any(known):
        return ""
    steps = range(1, len(history) + 1)
    with svg.style():
        drawing, axes = new_drawing(3.6)
        for position, name in enumerate(names):
            line = [epoch.kappa.get(name) or float("nan") for epoch in history]
            axes.plot(steps, line, color=BLUE, alpha=0.35, linewidth=1, label="" if position else "one layer")
        medians = [median(values) if values else float("nan") for values in known]
        axes.plot(steps, medians, color=RED, linewidth=2.6, label="median of the layers")
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_ylabel("condition number κ")
        _epochs(axes, history)
        legend(drawing, axes)
        return svg.render(
            drawing,
            "kappa",
            "Condition number of every layer over the epochs",
            f"{len(names)} layers; the median goes from {figure(medians[0])} to {figure(medians[-1])}.",
        )


def training_plot(history: Sequence[Epoch]) -> str:
    """Clean and robust accuracy on validation images, and the sparsity, after each epoch."""
    curves = {
        "clean accuracy": ([epoch.clean for epoch in history], BLUE, "-"),
        "robust accuracy": ([epoch.robust for epoch in history], RED, "-"),
        "sparsity": ([epoch.sparsity for epoch in history], GREY, "--"),
    }
    drawn = {name: curve for name, curve in curves.items() if any(value is not None for value in curve[0])}
    if not drawn:
        return ""
    with svg.style():
        drawing, axes = new_drawing(3.2)
        for name, (values, colour, line) in drawn.items():
            points = [float("nan") if value is None else value for value in values]
            axes.plot(range(1, len(history) + 1), points, color=colour, linestyle=line, linewidth=2, label=name)
        percent_axis(axes, "y")
        _epochs(axes, history)
        legend(drawing, axes)
        ends = "; ".join(f"{name} ends at {percent(values[-1])}" for name, (values, _, _) in drawn.items())
        return svg.render(drawing, "training", "Validation accuracy and sparsity over the epochs", ends + ".")


def _epochs(axes: Axes, history: Sequence[Epoch]) -> None:
    """The epochs of all stages in sequence, each stage with its own background and its name above."""
    axes.set_xlim(0.5, len(history) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    axes.set_xlabel("epoch")
    end = 0.5
    for stage, epochs in groupby(history, key=lambda epoch: epoch.stage):
        start, end = end, end + len(list(epochs))
        axes.axvspan(start, end, color=SHADES.get(stage, "#ffffff"), linewidth=0, zorder=0)
        axes.text((start + end) / 2, 1.02, short(stage), transform=axes.get_xaxis_transform(), ha="center", fontsize=9)
