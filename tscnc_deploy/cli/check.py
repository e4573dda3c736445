"""`tscnc-deploy check`: the gate in CI that keeps a model that lost its robustness from being merged."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tscnc_deploy.cli.common.bundles import bundle_argument
from tscnc_deploy.cli.common.options import complete_recipe, device_option, threads_option
from tscnc_deploy.cli.common.output import json_option, print_json, print_table, reserve_stdout
from tscnc_deploy.cli.common.signer_options import chosen_identity, signer_options
from tscnc_deploy.text import number

if TYPE_CHECKING:
    from tscnc_deploy.check import CheckReport, CheckResult

_FILE = click.Path(path_type=Path, dir_okay=False)
# Outcomes whose messages the error at the end lists, if they decide.
_ENDING = ("failed", "error", "unavailable", "inconclusive", "not checked")


@click.command()
@bundle_argument
@click.option(
    "--recipe",
    metavar="NAME|FILE",
    shell_complete=complete_recipe,
    help="Recipe whose threat model, gates and sparsity apply.  [default: the baseline's, otherwise the bundle's own]",
)
@click.option(
    "--baseline",
    type=click.Path(path_type=Path),
    metavar="BUNDLE",
    help="Bundle that this one must not be worse than, such as the main branch's; both are attacked on its images.",
)
@click.option(
    "--margin",
    type=click.FloatRange(min=0, max=1, max_open=True),
    default=0.02,
    show_default=True,
    metavar="SHARE",
    help="Largest loss of robust accuracy against the baseline, as a share, with 95% confidence.",
)
@signer_options
@click.option(
    "--dataset",
    metavar="NAME",
    help="Attack test images of this data set, which the check draws, instead of the bundle's; also supplies evidence "
    "images that a bundle withholds.  [default: the recipe's, if --data-root is given]",
)
@click.option(
    "--data-root",
    metavar="DIR",
    type=click.Path(),
    help="Folder of that data set, or its .npz file.",
)
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of test images to draw from the data set.  [default: 256, or all if there are fewer]",
)
@click.option(
    "--reproduce",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Rebuild the bundle from its recipe in this run folder, or use the finished build in it, and compare masks, "
    "weights, engines, evidence and figures.",
)
@click.option(
    "--code",
    metavar="FILE.py|PACKAGE.MODULE",
    help="With --reproduce: your copy of the code of the bundle's network, if that is its maker's own. It must be the "
    "version that the bundle was built with, and is run; code is never taken from a bundle.",
)
@click.option(
    "--engine",
    "engines",
    multiple=True,
    metavar="twin|TARGET",
    help="Engine to run; may be repeated.  [default: every engine that this machine can run]",
)
@click.option(
    "--attack",
    "attacks",
    multiple=True,
    metavar="NAME",
    help="Fresh attack, in addition to the replay of the evidence; may be repeated.  "
    "[default: twin-apgd-10, bpda-20 and square-50]",
)
@click.option(
    "--budget",
    default="5m",
    show_default=True,
    metavar="TIME|QUERIES|none",
    help="Limit for all fresh attacks together, such as 60s or 200000q; images attacked by then count.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the attacks and of the images that are drawn; take one that the bundle's maker cannot know.",
)
@click.option(
    "--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Change a key of the recipe: gates.robust=0.4."
)
@click.option("--junit", type=_FILE, metavar="FILE", help="Write every check as a test case, as JUnit XML.")
@device_option
@threads_option
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
    samples: int | None,
    reproduce: Path | None,
    code: str | None,
    engines: tuple[str, ...],
    attacks: tuple[str, ...],
    budget: str,
    seed: int,
    overrides: tuple[str, ...],
    junit: Path | None,
    device: str,
    as_json: bool,
) -> None:
    """Check a bundle, as a gate in CI.

    Checks that it is complete, is what it claims, and withstands attacks. Runs the cheapest checks first: digests;
    signature; versions; whether recipe, record and evidence agree; zeros and precision, counted in the files; every
    engine, compared with its twin; the stored adversarial examples, replayed on twin and engines; a fresh attack, with
    and without the twin's gradient, within a budget. Signs of gradient masking lead to a longer search without
    gradients, against which the gates must hold too. In GitHub Actions, writes annotations and the step summary.

    Whoever makes a bundle can change everything in it. Use --recipe to apply your own limits, --dataset (or --baseline)
    for images that its maker did not choose, --key (or --identity and --issuer) to verify who signed it, and
    --reproduce DIR to rebuild it. What nothing here can prove is printed "as its maker says".

    Exit status: 0 passed, 1 a gate failed, 2 bad input, 3 this machine cannot run the engine, 4 inconclusive: the
    interval contains the limit, 5 not checked: a gate cannot be checked on this bundle.
    """
    from dataclasses import replace
    from functools import partial

    from tscnc_deploy.bundle.opening import given_folder
    from tscnc_deploy.check import CheckRequest, check_bundle
    from tscnc_deploy.cli.common.progress import build_progress
    from tscnc_deploy.cli.common.rebuild import rebuild
    from tscnc_deploy.devices import choose_device
    from tscnc_deploy.verify import parse_budget

    request = CheckRequest(
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
        samples=samples,
    )
    if samples is not None and not request.draws:
        msg = "--samples requires --dataset or --data-root: the evidence images of a bundle are attacked all"
        raise click.UsageError(msg)
    if code is not None and reproduce is None:
        msg = "--code requires --reproduce: nothing else runs the code of a network"
        raise click.UsageError(msg)
    _require_folder(junit)
    with reserve_stdout(as_json), build_progress() as progress:
        if reproduce is not None:
            request = replace(request, rebuild=partial(rebuild, reproduce, request, progress, code))
        report = check_bundle(request, progress)
    if junit is not None:
        from tscnc_deploy.check.outputs.junit import write_junit

        write_junit(junit, report)
    _write_for_github(report, as_json)
    if as_json:
        print_json(report.to_json())
    else:
        _show(report)
    _end(report)


def _show(report: CheckReport) -> None:
    print_table(
        ("check", "", "measured", "limit"),
        [(r.name, "FAILED" if r.outcome == "failed" else r.outcome, _figure(r.value), _figure(r.limit))
         for r in report.results],
    )  # fmt: skip
    for result in report.results:
        if result.message and result.outcome not in _ENDING:
            print_table((), [(f"  {_line(result)}",)])
    for name, engine in report.engines.items():
        robust = engine["robust"]
        click.echo(
            f"{name}: {robust['accuracy']:.1%} robust [{robust['low']:.1%}, {robust['high']:.1%}], "
            f"{robust['correct']} of {robust['total']} images"
        )
    click.echo(f"{report.verdict}; {report.seconds:.0f} s")


def _figure(value: float | None) -> str:
    return "" if value is None else number(value)


def _write_for_github(report: CheckReport, as_json: bool) -> None:
    if os.environ.get("GITHUB_ACTIONS") != "true":
        return
    from tscnc_deploy.check.outputs.github import step_summary, workflow_commands

    for line in workflow_commands(report):
        click.echo(line, err=as_json)
    if path := os.environ.get("GITHUB_STEP_SUMMARY"):
        try:
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(step_summary(report))
        except OSError as error:
            click.echo(f"warning: {path}: cannot be written: {error.strerror}", err=True)


def _require_folder(junit: Path | None) -> None:
    """Raises before the attacks if the file's folder does not exist."""
    if junit is not None and not junit.parent.is_dir():
        from tscnc_deploy.errors import StorageError

        msg = f"--junit {junit}: the folder {junit.parent} does not exist"
        raise StorageError(msg)


def _end(report: CheckReport) -> None:
    """Raises the error for the exit status; its message lists the results that cause it, one per line."""
    from tscnc_deploy.errors import (
        GateFailedError,
        InconclusiveError,
        InputError,
        NotCheckedError,
        TscncError,
        UnavailableError,
    )

    kinds: dict[int, tuple[str, type[TscncError]]] = {
        1: ("failed", GateFailedError),
        2: ("error", InputError),
        3: ("unavailable", UnavailableError),
        4: ("inconclusive", InconclusiveError),
        5: ("not checked", NotCheckedError),
    }
    if report.status:
        outcome, kind = kinds[report.status]
        raise kind("\n".join(_line(result) for result in report.results if result.outcome == outcome))


def _line(result: CheckResult) -> str:
    return f"{result.name}: {result.message}"
