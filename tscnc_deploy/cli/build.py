"""`tscnc-deploy build`: trains, prunes, verifies, exports, attacks the exported engines, and packs a bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tscnc_deploy.cli.common.gates import missed_gate
from tscnc_deploy.cli.common.options import device_option, recipe_from_options, recipe_options, threads_option
from tscnc_deploy.cli.common.output import json_option, print_json, print_table, reserve_stdout
from tscnc_deploy.errors import MissingDataError
from tscnc_deploy.text import number

if TYPE_CHECKING:
    from tscnc_deploy.pipeline.run import Run, StageResult
    from tscnc_deploy.recipe import Recipe

# How many kinds of parameters that are not pruned are named.
_KINDS = 4


@click.command()
@recipe_options
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder of the run; the bundle is in DIR/bundle. Default: runs/RECIPE-ARCH-sSPARSITY.",
    metavar="DIR",
)
@click.option(
    "--no-evidence-images",
    is_flag=True,
    help="Put digests and indices of the evidence images into the bundle instead of images and adversarial examples, "
    "for data that must not be shipped: verify.ship_images=false.",
)
@device_option
@threads_option
@click.option("--plan", is_flag=True, help="Show the stages, which are done, and the cost; run nothing.")
@json_option
def build(
    out: Path | None,
    no_evidence_images: bool,
    device: str,
    plan: bool,
    as_json: bool,
    overrides: tuple[str, ...],
    **options: Any,
) -> None:
    """Train, prune, verify, export, attack again.

    Trains adversarially, prunes with TSCNC, measures robust accuracy, exports engines, attacks every exported engine
    itself, and packs engines and evidence into a bundle. An interrupted build continues where it was; a finished one
    is not repeated.

    Exit status: 0 built and all gates passed, 1 a gate failed, 2 bad input, 3 hardware or a package is missing,
    130 interrupted.
    """
    withheld = ("verify.ship_images=false",) if no_evidence_images else ()
    recipe = recipe_from_options(overrides=(*overrides, *withheld), **options)

    with reserve_stdout(as_json):
        from tscnc_deploy.devices import choose_device, describe_device
        from tscnc_deploy.pipeline.run import Run
        from tscnc_deploy.pipeline.stages import STAGES

        where = choose_device(device)
        run = Run(out or default_folder(recipe), STAGES, device=where.type, device_class=describe_device(where))
        document = _plan(run, recipe) if plan else _build(run, recipe)
    if as_json:
        print_json(document)
    elif plan:
        _show_plan(document)
    else:
        _show_summary(document)
    if not plan:
        _require_gates(document)


def default_folder(recipe: Recipe) -> Path:
    """runs/RECIPE-ARCH-sSPARSITY, such as runs/digits-resnet18-s95.

    The name also contains a data set that differs from the recipe's name, a budget other than the default, and a seed
    other than 0.
    """
    from tscnc_deploy.arch import parse_arch
    from tscnc_deploy.recipe import Prune

    dataset = "" if recipe.data.dataset in recipe.name else f"-{recipe.data.dataset}"
    seed = f"-seed{recipe.seed}" if recipe.seed else ""
    budget = "" if recipe.prune.budget == Prune().budget else f"-{recipe.prune.budget}"
    name = f"{recipe.name}{dataset}-{parse_arch(recipe.model.arch).slug}-s{100 * recipe.prune.sparsity:g}{budget}{seed}"
    return Path("runs") / name


def _build(run: Run, recipe: Recipe) -> dict[str, Any]:
    from tscnc_deploy.cli.common.progress import build_progress
    from tscnc_deploy.pipeline.cost import estimate_build

    _require_an_engine(recipe)
    if not all(cached for _, cached in run.plan(recipe)):
        cost, _ = estimate_build(recipe)
        run.prepare(cost.disk_bytes)
    with build_progress() as progress:
        results = run.build(recipe, progress)
    return summarize(run.folder, results)


def _require_an_engine(recipe: Recipe) -> None:
    """Refuses a build, before hours of training, if an engine cannot be written here or no engine can be attacked.

    Raises:
        UnavailableError: This machine cannot write one of the targets, or cannot run any of them; the message says why.
    """
    from tscnc_deploy.engines import can_export, can_run, load_target
    from tscnc_deploy.errors import UnavailableError

    cannot = {name: can_export(load_target(name)) for name in recipe.export.targets}
    if any(cannot.values()):
        msg = "\n".join(f"target {name}: cannot be built here: {reason}" for name, reason in cannot.items() if reason)
        raise UnavailableError(msg)
    reasons = {name: can_run(load_target(name)) for name in recipe.export.targets}
    if all(reasons.values()):
        lines = [f"target {name}: {reason}" for name, reason in reasons.items()]
        msg = "\n".join(
            [*lines, "no engine can be attacked here; add a target that runs here, such as --target onnx-cpu"]
        )
        raise UnavailableError(msg)


def summarize(folder: Path, results: list[StageResult]) -> dict[str, Any]:
    """The JSON of a build, read from its bundle."""
    from tscnc_deploy.bundle import open_bundle

    record = open_bundle(folder / "bundle").record.to_json()
    return {
        "run": str(folder),
        "bundle": str(folder / "bundle"),
        "passed": record["passed"],
        "seconds": round(sum(result.seconds for result in results if not result.cached), 3),
        "stages": [result.to_json() for result in results],
        "model": record["model"],
        "not_pruned": json.loads((folder / "stages" / "trial" / "network.json").read_text("utf-8"))["not_pruned"],
        "dense": record["evaluations"]["dense"],
        "twin": record["evaluations"]["twin"],
        "engines": record["evaluations"]["engines"],
        "sizes": record["sizes"],
        "latency": record["latency"],
        "gates": record["gates"],
    }


def _plan(run: Run, recipe: Recipe) -> dict[str, Any]:
    """What a build would do and cost; does not download or train anything."""
    from tscnc_deploy.devices import choose_device
    from tscnc_deploy.pipeline.cost import estimate_build, probe_rate

    without = recipe.model_copy(update={"data": recipe.data.model_copy(update={"download": False})})
    try:
        cost, facts = estimate_build(without)
    except MissingDataError as error:
        if not recipe.data.download:
            raise
        msg = (
            f"data.root = {recipe.data.root!r}: the data are missing, and --plan does not download; build without "
            "--plan to download them"
        )
        raise MissingDataError(msg) from error
    seconds = cost.seconds(probe_rate(choose_device(run.device)))
    stages: list[dict[str, Any]] = [
        {
            "name": name,
            "cached": cached,
            "multiply_adds": 0.0 if cached else cost.multiply_adds.get(name, 0.0),
            "seconds": 0.0 if cached else round(seconds.get(name, 0.0), 3),
        }
        for name, cached in run.plan(recipe)
    ]
    total = sum(stage["seconds"] for stage in stages)
    place = {"run": str(run.folder), "device": run.device_class}
    return {**place, "stages": stages, "seconds": total, "disk_bytes": cost.disk_bytes, **facts}


def _show_plan(plan: dict[str, Any]) -> None:
    rows = [
        (
            stage["name"],
            "done" if stage["cached"] else "will run",
            f"{stage['multiply_adds'] / 1e12:.2f}" if stage["multiply_adds"] else "",
            f"{stage['seconds'] / 60:.1f}" if stage["seconds"] else "",
        )
        for stage in plan["stages"]
    ]
    print_table(("stage", "state", "MACs, 10^12", "minutes, roughly"), rows)
    click.echo(
        f"{plan['train_images']} training, {plan['validation_images']} validation, {plan['test_images']} test "
        f"images; {plan['parameters']:,} parameters, {plan['multiply_adds_per_image'] / 1e6:.1f} million MACs per image"
    )
    click.echo(_not_pruned(plan["not_pruned"]))
    click.echo(
        f"about {plan['seconds'] / 60:.0f} min on this {plan['device']}; up to {plan['disk_bytes'] / 1e9:.1f} GB "
        f"in {plan['run']}"
    )


def _show_summary(summary: dict[str, Any]) -> None:
    from tscnc_deploy.report.wording import form

    model = summary["model"]
    click.echo(
        f"\n{model['arch']}: {model['nonzero']:,} of {model['prunable']:,} weights are nonzero "
        f"({model['sparsity']:.2%} sparsity, counted in the exported file)"
    )
    click.echo(_not_pruned(summary["not_pruned"]))
    if model["multiply_add_sparsity"] is not None:
        click.echo(
            f"MACs per image: {model['multiply_adds_left'] / 1e6:.2f} of {model['multiply_adds'] / 1e6:.2f} million "
            f"({model['multiply_add_sparsity']:.2%} saved)"
        )
    named = {"dense": summary["dense"], "twin (pruned)": summary["twin"], **summary["engines"]}
    columns = list(dict.fromkeys(attack for e in named.values() for attack in e.get("attacks", {})))
    rows = [_row(name, evaluation, columns) for name, evaluation in named.items()]
    print_table(("accuracy", "clean", *columns, "worst case [95% interval]"), rows)
    for name, evaluation in named.items():
        for warning in evaluation.get("warnings") or ():
            click.echo(f"WARNING {name}: {warning['message']}")
    for name, engine in summary["engines"].items():
        if engine.get("unavailable"):
            click.echo(f"{name}: {engine['bytes'] / 1e6:.1f} MB; {_not_run(engine['unavailable'])}")
        else:
            click.echo(
                f"{name}: {engine['bytes'] / 1e6:.1f} MB; largest difference from the twin's logits "
                f"{_figure(engine['max_abs_diff'])}; {engine['flips']} flipped labels"
            )
    if summary["latency"]:
        _show_latency(summary["latency"])
    print_table(
        ("size", "MB", "compression"),
        [(form(size["name"]), f"{size['bytes'] / 1e6:.2f}", f"{size['ratio']:.1f}x") for size in summary["sizes"]],
    )
    failed = [gate for gate in summary["gates"] if not gate["passed"]]
    click.echo(f"gates: {len(summary['gates']) - len(failed)} of {len(summary['gates'])} passed")
    for gate in failed:
        click.echo(f"  FAILED {gate['name']}: {_figure(gate['value'])}, limit {_figure(gate['limit'])}")
    click.echo(f"bundle: {summary['bundle']}")
    click.echo(f"report: {Path(summary['bundle']) / 'report.html'}")


def _not_pruned(kinds: dict[str, int]) -> str:
    """Such as "not pruned: 9,610 parameters (BatchNorm2d.weight 4,800, BatchNorm2d.bias 4,800, Linear.bias 10)"."""
    shown = ", ".join(f"{kind} {count:,}" for kind, count in list(kinds.items())[:_KINDS])
    more = f", and {len(kinds) - _KINDS} kinds more" if len(kinds) > _KINDS else ""
    return f"not pruned: {sum(kinds.values()):,} parameters{f' ({shown}{more})' if kinds else ''}"


def _show_latency(latency: dict[str, Any]) -> None:
    from tscnc_deploy.record import Latency
    from tscnc_deploy.report.wording import figure

    known = Latency.model_validate(latency)
    print_table(
        ("one image, one thread", "median ms", "fastest ms", "speedup"),
        [
            (name, figure(call.median_ms), figure(call.min_ms), f"{figure(known.times_dense(name))}x")
            for name, call in known.engines.items()
        ],
    )


def _not_run(reason: str) -> str:
    return reason if "not run here" in reason else f"not run here: {reason}"


def _row(name: str, evaluation: dict[str, Any], columns: list[str]) -> tuple[str, ...]:
    if not evaluation.get("clean"):
        return (name, *("" for _ in columns), "", "not run here")
    attacks = evaluation["attacks"]
    robust = evaluation["robust"]
    return (
        name,
        f"{evaluation['clean']['accuracy']:.1%}",
        *(f"{attacks[column]['accuracy']:.1%}" if column in attacks else "" for column in columns),
        f"{robust['accuracy']:.1%} [{robust['low']:.1%}, {robust['high']:.1%}] of {robust['total']}",
    )


def _figure(value: float | None) -> str:
    return "not finite" if value is None else number(value)


def _require_gates(summary: dict[str, Any]) -> None:
    """Raises the error for the exit status of a failed gate."""
    from tscnc_deploy.errors import GateFailedError, InconclusiveError

    failed = [gate for gate in summary["gates"] if not gate["passed"]]
    if not failed:
        return
    lines = [missed_gate(gate) for gate in failed]
    if all(gate.get("inconclusive") for gate in failed):
        more = "the interval contains the limit; set verify.samples to use more test images"
        raise InconclusiveError("\n".join(f"inconclusive: {line}; {more}" for line in lines))
    raise GateFailedError("\n".join(f"gate failed: {line}" for line in lines))
