"""`tscnc-deploy check`: the gate of a pipeline; a model that lost its robustness does not merge."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tscnc_deploy.cli.common.bundles import bundle_argument, given_folder
from tscnc_deploy.cli.common.options import complete_recipe, device_option
from tscnc_deploy.cli.common.output import json_option, print_json, print_table, reserve_stdout
from tscnc_deploy.cli.common.signer_options import chosen_identity, signer_options

if TYPE_CHECKING:
    from tscnc_deploy.check import CheckReport, CheckResult

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@bundle_argument
@click.option(
    "--recipe",
    metavar="NAME|FILE",
    shell_complete=complete_recipe,
    help="Your recipe: its threat model, gates and sparsity count.  [default: the baseline's, else the bundle's own]",
)
@click.option(
    "--baseline",
    type=click.Path(path_type=Path),
    metavar="BUNDLE",
    help="A bundle that this one must not be worse than, such as the one of the main branch; both are attacked on its "
    "images.",
)
@click.option(
    "--margin",
    type=click.FloatRange(min=0, max=1, max_open=True),
    default=0.02,
    show_default=True,
    metavar="SHARE",
    help="Largest share of robust accuracy that may be lost against the baseline, with 95% confidence.",
)
@signer_options
@click.option(
    "--dataset",
    metavar="NAME",
    help="Data set of the evidence images, for a bundle that holds only their digests.  [default: its recipe's]",
)
@click.option(
    "--data-root",
    metavar="DIR",
    type=click.Path(),
    help="Folder of that data set, or the .npz file; places and digests say which images are taken.",
)
@click.option(
    "--reproduce",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Rebuild the bundle from its recipe in this folder of a run, or take the one that is there, and compare "
    "masks, weights, engines, evidence and figures.",
)
@click.option(
    "--engine",
    "engines",
    multiple=True,
    metavar="twin|TARGET",
    help="What to run; may be given several times.  [default: every engine that this machine can run]",
)
@click.option(
    "--attack",
    "attacks",
    multiple=True,
    metavar="NAME",
    help="A fresh attack, besides the replay of the evidence; may be given several times.  "
    "[default: twin-apgd-10 and square-50]",
)
@click.option(
    "--budget",
    default="5m",
    show_default=True,
    metavar="TIME|QUERIES|none",
    help="What all fresh attacks may cost together, such as 60s or 200000q; the images attacked by then count.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the attacks.")
@click.option(
    "--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Change a key of the recipe, as gates.robust=0.4."
)
@click.option("--junit", type=_FILE, metavar="FILE", help="Write every check as a test, in JUnit's XML.")
@device_option
@json_option
def check(
    bundle: Path,
    recipe: str | None,
    baseline: Path | None,
    margin: float,
    key: Path | None,
    identity: str | None,
    issuer: str | None,
    trust_config: Path | None,
    dataset: str | None,
    data_root: str | None,
    reproduce: Path | None,
    engines: tuple[str, ...],
    attacks: tuple[str, ...],
    budget: str,
    seed: int,
    overrides: tuple[str, ...],
    junit: Path | None,
    device: str,
    as_json: bool,
) -> None:
    """Check that a bundle is whole, is what it says, and still stands attacks.

    Cheapest first: digests; signature; versions; recipe, record and evidence against each other; zeros and precision
    counted in the files; the stored adversarial examples replayed on every engine; a fresh attack, with the twin's
    gradient and without, within a budget. In GitHub Actions it annotates and writes the step's summary.

    Whoever makes a bundle can rewrite what it says. Give --recipe for bounds of yours, --baseline for images that its
    maker did not choose, --key (or --identity and --issuer) for its origin, --reproduce DIR to build it again.

    Exit status: 0 passed, 1 a gate failed, 2 bad input, 3 this machine cannot run the engine, 4 inconclusive: the
    interval straddles the bound.
    """
    from dataclasses import replace
    from functools import partial

    from tscnc_deploy.check import Request, check_bundle
    from tscnc_deploy.cli.common.progress import build_progress
    from tscnc_deploy.cli.common.rebuild import rebuild
    from tscnc_deploy.devices import choose_device
    from tscnc_deploy.verify import parse_budget

    request = Request(
        bundle=given_folder(bundle),
        key=key,
        identity=chosen_identity(key, identity, issuer, trust_config),
        recipe=recipe,
        overrides=overrides,
        baseline=None if baseline is None else given_folder(baseline),
        margin=margin,
        engines=engines,
        attacks=attacks,
        budget=None if budget == "none" else parse_budget(budget),
        seed=seed,
        device=choose_device(device).type,
        dataset=dataset,
        data_root=data_root,
    )
    _require_place(junit)
    with reserve_stdout(as_json), build_progress() as progress:
        if reproduce is not None:
            request = replace(request, rebuild=partial(rebuild, reproduce, request, progress))
        found = check_bundle(request, progress)
    if junit is not None:
        from tscnc_deploy.check.outputs.junit import write_junit

        write_junit(junit, found)
    _tell_github(found, as_json)
    if as_json:
        print_json(found.to_json())
    else:
        _show(found)
    _end(found)


def _show(found: CheckReport) -> None:
    print_table(
        ("check", "", "measured", "limit"),
        [(f.name, "FAILED" if f.outcome == "failed" else f.outcome, _figure(f.value), _figure(f.limit))
         for f in found.findings],
    )  # fmt: skip
    for finding in found.findings:
        if finding.message and finding.outcome not in ("failed", "error", "unavailable", "inconclusive"):
            print_table((), [(f"  {finding.name}: {finding.message}",)])
    click.echo(f"{found.verdict}; {found.seconds:.0f} s")


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _tell_github(found: CheckReport, as_json: bool) -> None:
    if os.environ.get("GITHUB_ACTIONS") != "true":
        return
    from tscnc_deploy.check.outputs.github import step_summary, workflow_commands

    for line in workflow_commands(found):
        click.echo(line, err=as_json)
    if place := os.environ.get("GITHUB_STEP_SUMMARY"):
        try:
            with Path(place).open("a", encoding="utf-8") as file:
                file.write(step_summary(found))
        except OSError as error:
            click.echo(f"warning: {place}: cannot be written: {error.strerror}", err=True)


def _require_place(junit: Path | None) -> None:
    """Refuses a file that could not be written, before the attacks."""
    if junit is not None and not junit.parent.is_dir():
        from tscnc_deploy.errors import StorageError

        msg = f"--junit {junit}: there is no folder {junit.parent}"
        raise StorageError(msg)


def _end(found: CheckReport) -> None:
    """Raises what the worst findings mean for the exit status, with all of that kind on lines of their own."""
    from tscnc_deploy.errors import GateFailedError, InconclusiveError, InputError, UnavailableError

    kinds = {1: ("failed", GateFailedError), 2: ("error", InputError), 3: ("unavailable", UnavailableError)}
    if found.status:
        outcome, kind = kinds.get(found.status, ("inconclusive", InconclusiveError))
        raise kind("\n".join(_line(finding) for finding in found.findings if finding.outcome == outcome))


def _line(finding: CheckResult) -> str:
    return f"{finding.name}: {finding.message}"
