"""`tscnc-deploy verify`: attacks the engines of a bundle, an ONNX file, a checkpoint, or a live server."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tscnc_deploy.cli.common.options import complete_attack, device_option, threads_option
from tscnc_deploy.cli.common.output import json_option, print_json, reserve_stdout
from tscnc_deploy.cli.common.verify_options import (
    ArtifactType,
    data_options,
    effort_options,
    file_options,
    output_options,
    read_request,
    remote_options,
)
from tscnc_deploy.names import ATTACKS, ENSEMBLES
from tscnc_deploy.text import any_of

if TYPE_CHECKING:
    from tscnc_deploy.progress import Progress
    from tscnc_deploy.robustness.sharding.workers import Torchrun
    from tscnc_deploy.verify.artifact import Artifact
    from tscnc_deploy.verify.plan import Plan
    from tscnc_deploy.verify.run import VerifyResult


@click.command()
@click.argument("artifact", type=ArtifactType(path_type=Path))
@click.option(
    "--engine",
    "engines",
    multiple=True,
    metavar="twin|TARGET",
    help="Engine of a bundle to attack; may be given multiple times.  [default: all engines that run on this machine]",
)
@click.option(
    "--attack",
    "attacks",
    multiple=True,
    metavar="NAME",
    shell_complete=complete_attack,
    help=f"An attack such as {any_of(name.usual for name in ATTACKS.values())}, an ensemble "
    f"({', '.join(ENSEMBLES)}), or replay (a bundle's own examples); may be given multiple times.  "
    "[default: replay and the recipe's attacks; square-1000 without gradients]",
)
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of images, with the same share of each class.  [default: all evidence images of a bundle, else the "
    "recipe's verify.samples]",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the attacks.")
@data_options
@file_options
@remote_options
@effort_options
@output_options
@device_option
@threads_option
@json_option
def verify(
    artifact: Path | str, as_json: bool, per_image: Path | None, save_examples: Path | None, **options: Any
) -> None:
    """Attack a bundle, a file or a live server.

    ARTIFACT is a bundle (or a run's folder), any .onnx file, weights (.safetensors, .pt, .pth.tar), or the URL of a
    served model, http://HOST:PORT/v2/models/NAME or grpc://. A bundle (with --bundle, also for a server) provides
    images, recipe and twin; other artifacts are attacked on the test images of --dataset or --recipe. The engine's
    own logits decide, and its twin provides gradients: for an ONNX file its own graph, or --twin. Without gradients,
    an engine is attacked as a black box. The recipe's gates for clean and robust accuracy apply to the lower end of
    the 95% interval.

    After an interruption, the same command continues where it stopped. Under torchrun (torchrun --nproc-per-node 4
    -m tscnc_deploy verify ...) the processes share the images.

    Exit status: 0 passed, 1 a gate failed, 2 invalid input, 3 this machine cannot run the engine, 4 inconclusive (the
    interval contains the limit).
    """
    from tscnc_deploy.cli.common.progress import build_progress
    from tscnc_deploy.cli.common.verify_results import (
        check_outputs,
        require_deployed,
        require_gates,
        show,
        show_deployed,
        show_reading,
        write_outputs,
    )
    from tscnc_deploy.verify.resolve import resolve

    check_outputs(per_image, save_examples)
    with reserve_stdout(as_json):
        resolved = resolve(read_request(artifact, options))
        workers = _torchrun()
        leads = workers is None or workers.leads
        if resolved.reading and leads and not as_json:
            # Before hours of attacks on something else than what was meant.
            show_reading(resolved.reading)
        with build_progress() if leads else nullcontext() as progress:
            found = _verify_all(resolved.artifacts, resolved.plan, workers, progress)
    if not leads:
        return
    # The weakest engine determines the result of the bundle.
    worst = min(found, key=lambda name: found[name].evaluation.robust.accuracy)
    results = {name: result.to_json() for name, result in found.items()}
    write_outputs(found, per_image, save_examples)
    if as_json:
        passed = all(result.passed for result in found.values()) and resolved.deployed_passed
        deployed = {"deployed": resolved.deployed} if resolved.deployed else {}
        document = {"target": str(artifact), "engine": worst, **results[worst], "passed": passed, "engines": results}
        reading = {"reading": resolved.reading} if resolved.reading else {}
        print_json(document | deployed | reading)
    else:
        if resolved.deployed:
            show_deployed(resolved.deployed)
        show(found)
    require_gates(artifact, found)
    require_deployed(artifact, resolved)


def _verify_all(
    artifacts: list[Artifact], plan: Plan, workers: Torchrun | None, progress: Progress | None
) -> dict[str, VerifyResult]:
    from tscnc_deploy.robustness.sharding.work import shards_shown_by
    from tscnc_deploy.verify.run import verify_artifact

    found = {}
    for position, artifact in enumerate(artifacts, 1):
        name = artifact.source.name
        if progress:
            progress.start(name, position, len(artifacts))
        found[name] = verify_artifact(artifact, plan, workers, shards_shown_by(progress) if progress else None)
        if progress:
            progress.finish(name, cached=False, seconds=sum(found[name].evaluation.seconds.values()))
    return found


def _torchrun() -> Torchrun | None:
    from tscnc_deploy.robustness.sharding.workers import Torchrun, started_by_torchrun

    return Torchrun() if started_by_torchrun() else None
