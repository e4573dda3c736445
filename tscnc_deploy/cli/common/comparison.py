"""Comparison of runs, shared by the commands that compare them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tscnc_deploy.cli.common.output import print_table, write_page

if TYPE_CHECKING:
    from tscnc_deploy.report.comparison import Comparison, Mean


def compare(folders: Sequence[Path]) -> Comparison:
    """Reads runs or bundles and groups those with equal settings.

    Raises:
        BundleError: One of them does not contain an intact bundle.
        InputError: Two of them have the same settings and seed.
    """
    from tscnc_deploy.report.comparison import compare_runs, read_run

    return compare_runs([read_run(folder) for folder in folders])


def show_comparison(comparison: Comparison) -> None:
    """Prints the table: means over seeds, and the loss of each row relative to the first."""
    rows = [
        (
            row.label,
            len(row.results),
            _share(row.clean),
            _share(row.robust),
            _share(row.loss) if row.loss else "",
            f"{row.median_kappa.value:.3g}" if row.median_kappa else "",
        )
        for row in comparison.rows
    ]
    print_table(("recipe", "seeds", "clean [95%]", "robust [95%]", "robust lost [95%]", "median kappa"), rows)


def write_comparison(comparison: Comparison, out: Path, title: str) -> None:
    """Writes the comparison as one HTML page and prints its path.

    Raises:
        StorageError: The file cannot be written.
    """
    from tscnc_deploy.report.comparison.page import render_comparison

    write_page(render_comparison(comparison, title), out)


def _share(mean: Mean) -> str:
    value = f"{100 * mean.value:.1f}"
    return f"{value} [{100 * mean.low:.1f}, {100 * mean.high:.1f}]" if mean.seeds > 1 else value
