"""`tscnc-deploy report`: the HTML report of a bundle, rendered anew from its evidence."""

from __future__ import annotations

from pathlib import Path

import click

from tscnc_deploy.cli.bundles import bundle_argument, open_given


@click.command()
@bundle_argument
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default="report.html",
    show_default=True,
    help="File to write.",
    metavar="FILE",
)
def report(bundle: Path, out: Path) -> None:
    """Write a bundle's report as one HTML page."""
    from tscnc_deploy.errors import StorageError
    from tscnc_deploy.report.data import ReportData
    from tscnc_deploy.report.html import render_report

    page = render_report(ReportData.from_json(open_given(bundle).record))
    try:
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        msg = f"--out {out}: cannot be written: {error.strerror}"
        raise StorageError(msg) from error
    click.echo(f"{out}: {len(page):,} characters")
