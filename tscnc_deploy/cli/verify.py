"""`tscnc-deploy verify`: attacks the engines of a bundle, on its own evidence images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tscnc_deploy.cli.bundles import bundle_argument, open_given
from tscnc_deploy.cli.options import device_option
from tscnc_deploy.cli.output import json_option, print_json, print_table, reserve_stdout

if TYPE_CHECKING:
    from torch import Tensor

    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.recipe import Recipe
    from tscnc_deploy.robustness import Attack, Evaluation
    from tscnc_deploy.stages.base import Progress


@click.command()
@bundle_argument
@click.option(
    "--engine",
    "engines",
    multiple=True,
    metavar="twin|TARGET",
    help="What to attack; may be given several times.  [default: every engine that this machine can run]",
)
@click.option(
    "--attack",
    "attacks",
    multiple=True,
    metavar="NAME",
    help="An attack such as pgd-20, apgd-ce-50, apgd-t-50, fab-t-50, square-1000, twin-apgd-50 or hopskipjump-2000, an "
    "ensemble (fast, autoattack-standard, autoattack-plus), or replay (the bundle's own examples); may be given "
    "several times.  [default: replay and the recipe's verify.engine_attacks]",
)
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of evidence images, the same share of each class.  [default: all of them]",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the attacks.")
@device_option
@json_option
def verify(
    bundle: Path,
    engines: tuple[str, ...],
    attacks: tuple[str, ...],
    samples: int | None,
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    """Attack a bundle's engines.

    The images are the bundle's evidence, so no data set is needed; the engine's own logits decide, its twin gives the
    gradient. The bounds are the recipe's gates for clean and robust accuracy, on the lower end of the 95% interval.

    Exit status: 0 passed, 1 a gate failed, 2 bad input, 3 this machine cannot run the engine, 4 inconclusive: the
    interval straddles the bound.
    """
    from tscnc_deploy.cli.progress import build_progress
    from tscnc_deploy.errors import GateFailedError

    opened = open_given(bundle)
    recipe = _recipe(opened)
    names = engines or _runnable(opened)
    results: dict[str, dict[str, Any]] = {}
    with reserve_stdout(as_json), build_progress() as progress:
        for position, name in enumerate(names, 1):
            progress.start(name, position, len(names))
            evaluation = _evaluate(opened, recipe, name, attacks, samples, seed, device, progress)
            progress.finish(name, cached=False, seconds=sum(evaluation.seconds.values()))
            gates = _gates(recipe, evaluation)
            results[name] = {**evaluation.to_json(), "gates": gates, "passed": all(gate["passed"] for gate in gates)}
    # One engine answers for the bundle: the one that is easiest to fool.
    worst = min(results, key=lambda name: results[name]["robust"]["accuracy"])
    passed = all(result["passed"] for result in results.values())
    document = {"target": str(bundle), "engine": worst, **results[worst], "passed": passed, "engines": results}
    if as_json:
        print_json(document)
    else:
        _show(results)
    if not passed:
        _raise_if_inconclusive(results)
        failed = [
            f"{name}: {g['name']}" for name, result in results.items() for g in result["gates"] if not g["passed"]
        ]
        msg = f"{bundle}: gates failed: {', '.join(failed)}"
        raise GateFailedError(msg)


def _recipe(bundle: Bundle) -> Recipe:
    from pydantic import ValidationError

    from tscnc_deploy.errors import BundleError
    from tscnc_deploy.recipe import Recipe

    try:
        return Recipe.model_validate(bundle.record.get("recipe"))
    except ValidationError as error:
        msg = f"{bundle.path}: the recipe in evidence/evidence.json is not one that this version knows"
        raise BundleError(msg) from error


def _runnable(bundle: Bundle) -> tuple[str, ...]:
    """Names of the engines that open here.

    Raises:
        UnavailableError: None does.
    """
    from tscnc_deploy.errors import UnavailableError

    names, reasons = [], []
    for name in bundle.engines:
        try:
            bundle.engine(name)
        except UnavailableError as error:
            reasons.append(f"{name}: {error}")
        else:
            names.append(name)
    if not names:
        raise UnavailableError("\n".join(reasons) or f"{bundle.path}: there is no engine in it")
    return tuple(names)


def _evaluate(
    bundle: Bundle,
    recipe: Recipe,
    name: str,
    names: tuple[str, ...],
    samples: int | None,
    seed: int,
    device: str,
    progress: Progress,
) -> Evaluation:
    import torch

    from tscnc_deploy.data import stratified
    from tscnc_deploy.errors import InputError
    from tscnc_deploy.recipe.values import ENSEMBLES
    from tscnc_deploy.robustness import EngineVictim, ModelVictim, Threat, Victim, evaluate
    from tscnc_deploy.training.device import choose_device, deterministic
    from tscnc_deploy.training.seeds import derive_generator

    evidence = bundle.evidence
    labels = torch.from_numpy(evidence.labels)
    if samples is not None and samples > len(labels):
        msg = f"--samples {samples}: {bundle.path} holds {len(labels)} evidence images"
        raise InputError(msg)
    index = stratified(labels, samples or len(labels), derive_generator(seed, "verify"))
    twin = bundle.twin.to(choose_device(device))
    victim: Victim = ModelVictim(twin) if name == "twin" else EngineVictim(bundle.engine(name), twin)
    examples = evidence.adversarial.get(name, evidence.adversarial.get("twin"))
    attacks = _attacks(names or ("replay", *recipe.verify.engine_attacks), examples, index)
    threat = bundle.manifest.threat
    with deterministic(tf32=False):
        return evaluate(
            victim,
            torch.from_numpy(evidence.images)[index],
            labels[index],
            Threat(norm=threat.norm, epsilon=threat.epsilon),
            attacks,
            seed=seed,
            batch_size=recipe.verify.batch_size,
            # An ensemble is defined as a cascade: its later attacks see what the earlier ones left standing.
            cascade=any(name in ENSEMBLES for name in names),
            progress=lambda attack, done, total: progress.step(done, total, {}, attack),
        )


def _attacks(names: tuple[str, ...], examples: Any, index: Tensor) -> list[Attack]:
    import torch

    from tscnc_deploy.robustness import Replay, parse_attacks

    replayed: list[Attack] = []
    if "replay" in names and examples is not None:
        replayed.append(Replay(torch.from_numpy(examples)[index]))
    return [*replayed, *parse_attacks(name for name in names if name != "replay")]


def _gates(recipe: Recipe, evaluation: Evaluation) -> list[dict[str, Any]]:
    """The gates on one engine; an inconclusive one says how many images would settle it."""
    from tscnc_deploy.robustness import at_least, images_to_settle

    gates = []
    for what, limit in (("clean", recipe.gates.clean), ("robust", recipe.gates.robust)):
        share = evaluation.clean if what == "clean" else evaluation.robust
        gate = at_least(f"{what} accuracy, lower end", share, limit)
        settle = {"images_to_settle": images_to_settle(share, limit)} if gate.inconclusive else {}
        gates.append(gate.to_json() | settle)
    return gates


def _raise_if_inconclusive(results: dict[str, dict[str, Any]]) -> None:
    from tscnc_deploy.errors import InconclusiveError

    failed = [(name, gate) for name, result in results.items() for gate in result["gates"] if not gate["passed"]]
    if not all(gate.get("inconclusive") for _, gate in failed):
        return
    lines = []
    for name, gate in failed:
        needed = gate["images_to_settle"]
        settle = f"about {needed} images in all would settle it" if needed else "no number of images would settle it"
        lines.append(
            f"{name}: {gate['name']} {gate['value']:.4f} is below {gate['limit']:g}, its upper end above; {settle}"
        )
    raise InconclusiveError("\n".join(lines))


def _show(results: dict[str, dict[str, Any]]) -> None:
    for name, result in results.items():
        rows = [("clean", result["clean"]), *result["attacks"].items(), ("worst case", result["robust"])]
        print_table(
            (f"{name}, {result['norm']} {result['epsilon']:g}", "accuracy", "images", "95% interval"),
            [
                (what, f"{a['accuracy']:.1%}", f"{a['correct']} of {a['total']}", f"{a['low']:.1%} to {a['high']:.1%}")
                for what, a in rows
            ],
        )
    click.echo("passed" if all(result["passed"] for result in results.values()) else "not passed")
