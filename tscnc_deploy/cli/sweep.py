"""`tscnc-deploy sweep`: many builds that differ in a few settings, one after another, and a comparison of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tscnc_deploy.cli.common.options import device_option, threads_option
from tscnc_deploy.cli.common.output import json_option, print_json, print_table, reserve_stdout

if TYPE_CHECKING:
    from tscnc_deploy.recipe.sweep import Sweep


@click.command()
@click.argument("sweep", metavar="[NAME|FILE]", required=False)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the runs. Default: runs/SWEEP.",
    metavar="DIR",
)
@click.option("--data-root", type=click.Path(), help="Folder of the images.", metavar="DIR")
@click.option("--seed", "seeds", type=int, multiple=True, metavar="N", help="Only these seeds; may be repeated.")
@click.option(
    "--set",
    "overrides",
    metavar="KEY=VALUE",
    multiple=True,
    help="Change any key of every build, such as --set train.epochs=5; may be repeated.",
)
@device_option
@threads_option
@click.option("--plan", is_flag=True, help="Show the builds, which are done, and the cost; run nothing.")
@json_option
def sweep(sweep: str | None, out: Path | None, device: str, plan: bool, as_json: bool, **options: Any) -> None:
    """Build every recipe of a sweep and compare the results.

    Without NAME, lists the sweeps that ship with the package. An interrupted sweep continues where it was; builds that
    only differ in how they prune share one dense training. The comparison is written to DIR/comparison.html, and
    `tscnc-deploy report --compare` rebuilds it from any of the runs.

    Exit status: 0 everything was built, whether its gates passed or not; 2 bad input, 130 interrupted.
    """
    from tscnc_deploy.recipe.sweep import list_sweeps, load_sweep

    if sweep is None:
        shipped = [(found.name, found.description) for found in list_sweeps()]
        if as_json:
            print_json({"sweeps": [dict(zip(("name", "description"), found, strict=True)) for found in shipped]})
        else:
            print_table(("sweep", "description"), shipped)
        return
    loaded = load_sweep(sweep, **options)
    folder = out or Path("runs") / loaded.name
    with reserve_stdout(as_json):
        document = _plan(loaded, folder, device) if plan else _build(loaded, folder, device)
    if as_json:
        print_json(document)
    elif plan:
        _show_plan(document)


def _build(loaded: Sweep, folder: Path, device: str) -> dict[str, Any]:
    from tscnc_deploy.cli.common.comparison import compare, show_comparison, write_comparison
    from tscnc_deploy.cli.common.progress import build_progress
    from tscnc_deploy.devices import choose_device, describe_device
    from tscnc_deploy.pipeline.run import Run
    from tscnc_deploy.pipeline.stages import STAGES

    where = choose_device(device)
    folders = {name: folder / name for name in loaded.recipes}
    # What cannot be built shows before the first of many trainings.
    for stages in (STAGES[:1], STAGES):
        for number, (name, recipe) in enumerate(loaded.recipes.items(), 1):
            click.echo(f"[{number} of {len(loaded.recipes)}] {name}", err=True)
            # Earlier builds with the same seed; builds with different seeds share no stage.
            donors = [folders[other] for other in loaded.recipes if other != name and folders[other].is_dir()]
            run = Run(folders[name], stages, device=where.type, device_class=describe_device(where), donors=donors)
            run.prepare(1)
            with build_progress() as progress:
                run.build(recipe, progress)
    comparison = compare(list(folders.values()))
    show_comparison(comparison)
    write_comparison(comparison, folder / "comparison.html", loaded.description)
    return comparison.to_json()


def _plan(loaded: Sweep, folder: Path, device: str) -> dict[str, Any]:
    """Every build, whether it is done, and its cost without stages that it shares with an earlier build."""
    from tscnc_deploy.devices import choose_device, describe_device
    from tscnc_deploy.pipeline.cost import estimate_build, probe_rate
    from tscnc_deploy.pipeline.run import Run
    from tscnc_deploy.pipeline.stages import STAGES

    where = choose_device(device)
    rate = probe_rate(where)
    shared: set[str] = set()
    train = next(stage for stage in STAGES if stage.name == "train")
    builds = []
    for name, recipe in loaded.recipes.items():
        offline = recipe.model_copy(update={"data": recipe.data.model_copy(update={"download": False})})
        cost, _ = estimate_build(offline)
        run = Run(folder / name, STAGES, device=where.type, device_class=describe_device(where))
        seconds = {stage: cost.seconds(rate).get(stage, 0.0) for stage, cached in run.plan(recipe) if not cached}
        training = repr(train.settings(recipe))
        if training in shared:
            seconds.pop(train.name, None)
        shared.add(training)
        builds.append({"name": name, "done": not seconds, "seconds": round(sum(seconds.values()), 3)})
    return {"out": str(folder), "device": describe_device(where), "builds": builds}


def _show_plan(plan: dict[str, Any]) -> None:
    rows = [
        (
            build["name"],
            "done" if build["done"] else "will run",
            f"{build['seconds'] / 60:.1f}" if build["seconds"] else "",
        )
        for build in plan["builds"]
    ]
    print_table(("build", "state", "minutes, roughly"), rows)
    total = sum(build["seconds"] for build in plan["builds"])
    click.echo(f"{len(rows)} builds, about {total / 60:.0f} min on this {plan['device']}, in {plan['out']}")
    click.echo("estimated from MACs, as if the machine were idle; small networks may take two or three times as long")
