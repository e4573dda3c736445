"""The HTML report: a self-contained page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from tscnc_deploy.record import BuildRecord, Evaluations, Measures
from tscnc_deploy.report import curves, plots
from tscnc_deploy.report.templates import fill
from tscnc_deploy.report.wording import verdict
from tscnc_deploy.versions import own_version


@dataclass(frozen=True)
class AttackRow:
    """An attack, its settings, and the models it was run on with these settings."""

    name: str
    models: tuple[str, ...]
    settings: tuple[tuple[str, object], ...]


def render_report(data: BuildRecord, *, drawings: bool = True) -> str:
    """The report as one HTML page with embedded styles and figures; equal data gives equal text.

    Everything from the record is escaped, and the page's policy forbids scripts and external resources, so reports of
    untrusted bundles can be opened safely.

    Args:
        data: The record.
        drawings: False leaves every figure empty, which takes a tenth of the time; the text is the same.

    Raises:
        UnavailableError: The templates are missing from the installation.
    """
    figures = (
        _drawn(data) if drawings else {name: "<svg></svg>" if shown else "" for name, shown in shows(data).items()}
    )
    return fill(
        "report.html.j2",
        autoescape=True,
        data=data,
        verdict=verdict(data),
        attacks=_attacks(data.evaluations),
        unmasked=[name for name, found in data.evaluations.named.items() if found.warnings == ()],
        beyond=_by_measure(data.evaluations),
        figures={name: Markup(svg) for name, svg in figures.items()},
        largest=max((size.bytes or 0 for size in data.sizes), default=0),
        version=own_version(),
    )


def _drawn(data: BuildRecord) -> dict[str, str]:
    return {
        "accuracy": plots.accuracy_plot(data),
        "sparsity": plots.sparsity_plot(data.layers),
        "kappa": plots.kappa_plot(data.history),
        "training": plots.training_plot(data.history),
        "curve": curves.curve_plot(data),
        "certified": curves.certified_plot(data),
    }


def shows(data: BuildRecord) -> dict[str, bool]:
    """Which figures the report has: those with something to draw."""
    measures = data.evaluations.measures.values()
    return {
        "accuracy": bool(data.evaluations.rows),
        "sparsity": any(layer.sparsity is not None for layer in data.layers),
        "kappa": any(value is not None and value > 0 for epoch in data.history for value in epoch.kappa.values()),
        "training": any(
            value is not None for epoch in data.history for value in (epoch.clean, epoch.robust, epoch.sparsity)
        ),
        "curve": any(found.curve and found.curve.points for found in measures),
        "certified": any(found.smoothing and found.smoothing.points for found in measures),
    }


def _by_measure(evaluations: Evaluations) -> dict[str, dict[str, Any]]:
    """The results of each measure for all models; empty if nothing was measured."""
    everything = {
        measure: {name: found for name, of in evaluations.measures.items() if (found := getattr(of, measure))}
        for measure in Measures.model_fields
    }
    return everything if evaluations.measures else {}


def _attacks(evaluations: Evaluations) -> list[AttackRow]:
    models: dict[tuple[str, tuple[tuple[str, object], ...]], list[str]] = {}
    for model, evaluation in evaluations.named.items():
        for attack in evaluation.attacks:
            settings = tuple(sorted(evaluation.settings.get(attack, {}).items()))
            models.setdefault((attack, settings), []).append(model)
    return [AttackRow(name, tuple(used), settings) for (name, settings), used in models.items()]
