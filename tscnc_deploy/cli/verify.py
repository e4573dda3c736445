"""`tscnc-deploy verify`: attacks the engines of a bundle, an ONNX file of anybody's, a checkpoint, or a live server."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tscnc_deploy.cli.common.options import complete_attack, device_option
from tscnc_deploy.cli.common.output import json_option, print_json, reserve_stdout
from tscnc_deploy.cli.common.verify_options import (
    TargetType,
    data_options,
    effort_options,
    file_options,
    output_options,
    remote_options,
)
from tscnc_deploy.names import ATTACKS, ENSEMBLES
from tscnc_deploy.text import any_of
from tscnc_deploy.verify.resolve import resolve_target

if TYPE_CHECKING:
    from tscnc_deploy.pipeline.stages.base import Progress
    from tscnc_deploy.robustness import Evaluation
    from tscnc_deploy.robustness.sharding.shards import ShardProgress
    from tscnc_deploy.robustness.sharding.workers import Torchrun
    from tscnc_deploy.verify.cases import EvalCase
    from tscnc_deploy.verify.plan import Plan
    from tscnc_deploy.verify.run import VerifyResult


@click.command()
@click.argument("target", type=TargetType(path_type=Path))
@click.option(
    "--engine",
    "engines",
    multiple=True,
    metavar="twin|TARGET",
    help="Of a bundle, what to attack; may be given several times.  [default: every engine that this machine can run]",
)
@click.option(
    "--attack",
    "attacks",
    multiple=True,
    metavar="NAME",
    shell_complete=complete_attack,
    help=f"An attack such as {any_of(name.usual for name in ATTACKS.values())}, an ensemble "
    f"({', '.join(ENSEMBLES)}), or replay (a bundle's own examples); may be given several times.  "
    "[default: the recipe's, after replay; square-1000 where there is no gradient]",
)
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of images, the same share of each class.  [default: all evidence images of a bundle, else the "
    "recipe's verify.samples]",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the attacks.")
@data_options
@file_options
@remote_options
@effort_options
@output_options
@device_option
@json_option
def verify(
    target: Path | str,
    engines: tuple[str, ...],
    attacks: tuple[str, ...],
    samples: int | None,
    seed: int,
    device: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Attack a bundle's engines, an ONNX file, a checkpoint, or a live server.

    TARGET is a bundle (or a run's folder), an .onnx file of anybody's, weights (.safetensors, .pt), or the address of a
    served model, http://HOST:PORT/v2/models/NAME or grpc://. A bundle brings its images, recipe and twin, for a server
    too with --bundle; the rest is attacked on the test images of --dataset or --recipe. The engine's own logits decide,
    its twin gives the gradient; without a twin it is attacked as a black box. The bounds are the recipe's gates for
    clean and robust accuracy, on the lower end of the 95% interval.

    Interrupted, the same command continues where it was. Under torchrun (torchrun --nproc-per-node 4 -m tscnc_deploy
    verify ...) the processes share the images.

    Exit status: 0 passed, 1 a gate failed, 2 bad input, 3 this machine cannot run the engine, 4 inconclusive: the
    interval straddles the bound.
    """
    from dataclasses import replace

    from tscnc_deploy.cli.common.progress import build_progress
    from tscnc_deploy.cli.common.verify_results import (
        check_outputs,
        require_deployed,
        require_gates,
        show,
        show_deployed,
        write_outputs,
    )

    check_outputs(options["per_image"], options["save_examples"])
    with reserve_stdout(as_json):
        chosen = resolve_target(target, engines, samples, seed, device, options)
        plan = chosen.plan(attacks, seed, options)
        workers = _torchrun()
        leads = workers is None or workers.rank == 0
        if not leads:  # what is no attack, the leading process does alone
            plan = replace(plan, masking=False, measures=())
        with build_progress() if leads else nullcontext() as progress:
            found = _assess(chosen.subjects, plan, workers, progress)
    if not leads:
        return
    # One engine answers for the bundle: the one that is easiest to fool.
    worst = min(found, key=lambda name: found[name].evaluation.robust.accuracy)
    results = {name: assessment.to_json() for name, assessment in found.items()}
    write_outputs(found, options["per_image"], options["save_examples"])
    if as_json:
        passed = all(assessment.passed for assessment in found.values()) and chosen.deployed_passed
        deployed = {"deployed": chosen.deployed} if chosen.deployed else {}
        document = {"target": str(target), "engine": worst, **results[worst], "passed": passed, "engines": results}
        print_json(document | deployed)
    else:
        if chosen.deployed:
            show_deployed(chosen.deployed)
        show(found)
    require_gates(target, found)
    require_deployed(target, chosen)


def _assess(
    subjects: list[EvalCase], plan: Plan, workers: Torchrun | None, progress: Progress | None
) -> dict[str, VerifyResult]:
    from tscnc_deploy.verify.run import verify_case

    found = {}
    for position, subject in enumerate(subjects, 1):
        name = subject.source.name
        if progress:
            progress.start(name, position, len(subjects))
        found[name] = verify_case(subject, plan, workers, _shards(progress) if progress else None)
        if progress:
            progress.finish(name, cached=False, seconds=sum(found[name].evaluation.seconds.values()))
    return found


def _torchrun() -> Torchrun | None:
    from tscnc_deploy.robustness.sharding.workers import Torchrun, started_by_torchrun

    return Torchrun() if started_by_torchrun() else None


def _shards(progress: Progress) -> ShardProgress:
    from tscnc_deploy.pipeline.stages.base import BOUNDS

    def show(attack: str, done: int, total: int, known: Evaluation | None) -> None:
        bounds = dict(zip(BOUNDS, (known.robust.low, known.robust.high), strict=True)) if known else {}
        progress.step(done, total, bounds, "", attack)

    return show
