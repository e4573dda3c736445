"""`tscnc-deploy report`: the HTML report of a bundle, rendered from its evidence, or a comparison of several runs."""

from __future__ import annotations

from pathlib import Path

import click

from tscnc_deploy.cli.common.output import json_option, print_json, reserve_stdout, write_page


@click.command()
@click.argument("runs", metavar="BUNDLE|RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--compare", is_flag=True, help="Compare the runs: tables, means over seeds, figures.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write. Default: report.html, or comparison.html.",
    metavar="FILE",
)
@click.option("--title", help="Heading of a comparison.  [default: Comparison]", metavar="TEXT")
@json_option
def report(runs: tuple[Path, ...], compare: bool, out: Path | None, title: str | None, as_json: bool) -> None:
    """Write a bundle's report, or compare runs.

    Writes one HTML page: report.html or comparison.html in the current folder, unless --out names another file. With
    --compare, runs that differ only in their seeds are grouped, and the loss of each recipe relative to that of the
    first run is paired by seed.
    """
    if compare:
        from tscnc_deploy.cli.common.comparison import compare as compare_runs
        from tscnc_deploy.cli.common.comparison import show_comparison, write_comparison

        with reserve_stdout(as_json):
            comparison = compare_runs(runs)
            show_comparison(comparison)
            write_comparison(comparison, out or Path("comparison.html"), title or "Comparison")
        if as_json:
            print_json(comparison.to_json())
        return
    if len(runs) > 1:
        msg = f"a report is about one bundle, but {len(runs)} are given; add --compare to compare them"
        raise click.UsageError(msg)
    if as_json:
        msg = "--json requires --compare; to print a bundle as JSON, run: tscnc-deploy inspect --json"
        raise click.UsageError(msg)
    if title is not None:
        msg = "--title requires --compare; the heading of a report is the bundle's name"
        raise click.UsageError(msg)
    _report(runs[0], out or Path("report.html"))


def _report(bundle: Path, out: Path) -> None:
    from tscnc_deploy.bundle.opening import open_given
    from tscnc_deploy.report.html import render_report

    opened = open_given(bundle)
    _ = opened.threat  # refuses a bundle whose parts disagree about it
    write_page(render_report(opened.record), out)
