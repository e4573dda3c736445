"""The comparison as a self-contained HTML page."""

from __future__ import annotations

from markupsafe import Markup

from tscnc_deploy.report.comparison import plots
from tscnc_deploy.report.comparison.rows import Comparison
from tscnc_deploy.report.templates import fill
from tscnc_deploy.versions import own_version


def render_comparison(comparison: Comparison, title: str) -> str:
    """The page; equal runs give equal text.

    Args:
        comparison: The comparison to show.
        title: Heading of the page.

    Raises:
        UnavailableError: The templates are missing from the installation.
    """
    costs = [
        plots.pareto_plot(comparison, "size", "size of the smallest form, MB", lambda run: run.bytes, 1e6),
        plots.pareto_plot(
            comparison, "latency", "milliseconds of the fastest engine, one image", lambda run: run.milliseconds
        ),
    ]
    figures = {
        "robust": Markup(plots.robust_plot(comparison)),
        "sparsity": Markup(plots.sparsity_plot(comparison)),
        "costs": [Markup(svg) for svg in costs if svg],
        "kappa": Markup(plots.kappa_plot(comparison)),
    }
    return fill(
        "comparison.html.j2",
        autoescape=True,
        comparison=comparison,
        title=title,
        figures=figures,
        version=own_version(),
    )
