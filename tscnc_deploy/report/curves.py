"""The figures of accuracies over a radius, each as an SVG element; "" if there is nothing to draw."""

from __future__ import annotations

from collections.abc import Mapping

from tscnc_deploy.record import Accuracy, BuildRecord
from tscnc_deploy.report import svg
from tscnc_deploy.report.axes import LOOKS, legend, new_drawing, percent_axis, short
from tscnc_deploy.report.wording import figure, percent

# Overlapping curves are transparent.
_LINES = ["-", "--", ":", "-."]


def curve_plot(data: BuildRecord) -> str:
    """Worst-case accuracy of each model over epsilon, with bands of 95% intervals and the threat's epsilon."""
    curves = {name: found.curve.points for name, found in data.evaluations.measures.items() if found.curve}
    norms = {found.curve.norm for found in data.evaluations.measures.values() if found.curve}
    label = f"ε ({norms.pop()})" if len(norms) == 1 else "ε"
    return _plot(
        data, curves, "curve", "Accuracy over epsilon", label, "worst-case accuracy", threat=data.threat.epsilon
    )


def certified_plot(data: BuildRecord) -> str:
    """Certified accuracy of each smoothed model over the L2 radius, with bands of 95% intervals."""
    curves = {name: found.smoothing.points for name, found in data.evaluations.measures.items() if found.smoothing}
    return _plot(data, curves, "certified", "Certified accuracy over the radius", "radius (L2)", "certified accuracy")


def _plot(
    data: BuildRecord,
    curves: Mapping[str, Mapping[float, Accuracy]],
    name: str,
    title: str,
    x_label: str,
    y_label: str,
    threat: float | None = None,
) -> str:
    drawn = {model: points for model, points in curves.items() if points}
    if not drawn:
        return ""
    # Each model has the same style as in the figure of all accuracies.
    places = {model: place for place, model in enumerate(data.evaluations.named)}
    with svg.style():
        drawing, axes = new_drawing(3.4)
        if threat is not None:
            axes.axvline(threat, color="#8a939b", linewidth=1, zorder=1)
            axes.text(threat, 1.02, "threat model", transform=axes.get_xaxis_transform(), ha="center", fontsize=9)
        for position, (model, points) in enumerate(drawn.items()):
            colour, marker = LOOKS[places[model] % len(LOOKS)]
            radii, shares = list(points), list(points.values())
            axes.fill_between(
                radii, [share.low for share in shares], [share.high for share in shares],
                color=colour, alpha=0.15, linewidth=0,
            )  # fmt: skip
            axes.plot(
                radii, [share.accuracy for share in shares], color=colour, marker=marker, markersize=5,
                linestyle=_LINES[position % len(_LINES)], linewidth=1.8, label=short(model), clip_on=False,
            )  # fmt: skip
        axes.set_xlim(left=0)
        percent_axis(axes, "y")
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        legend(drawing, axes)
        ends = "; ".join(
            f"{model}: {percent(shares[0].accuracy)} at {figure(radii[0])} to {percent(shares[-1].accuracy)} "
            f"at {figure(radii[-1])}"
            for model, radii, shares in ((m, [*points], [*points.values()]) for m, points in drawn.items())
        )
        return svg.render(drawing, name, title, ends + "; bands are 95% intervals.")
