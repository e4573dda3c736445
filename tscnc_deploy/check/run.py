"""Runs all checks of a bundle, the cheapest first."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from tscnc_deploy.bundle.manifest import TWIN
from tscnc_deploy.check.request import CheckRequest
from tscnc_deploy.check.result import CheckReport, CheckResult
from tscnc_deploy.errors import InputError, UnavailableError

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.check.attack import Baseline
    from tscnc_deploy.check.images import Shown
    from tscnc_deploy.check.policy import Policy
    from tscnc_deploy.progress import Progress
    from tscnc_deploy.robustness import Reference, Victim
    from tscnc_deploy.verify.artifact import Artifact
    from tscnc_deploy.verify.plan import Plan
    from tscnc_deploy.verify.run import VerifyResult


def check_bundle(request: CheckRequest, progress: Progress) -> CheckReport:
    """Checks a bundle; whatever is wrong with it is a result, not an exception.

    Bad input ends the run, because later results would mean nothing; a failed gate does not.

    Args:
        request: Which bundle, and how.
        progress: Reports the progress of the attacks.
    """
    started = time.monotonic()
    report = CheckReport(request.bundle)
    try:
        _check(request, report, progress)
    except UnavailableError as error:
        report.results.append(CheckResult(report.stage, "unavailable", str(error)))
    except InputError as error:
        report.results.append(CheckResult(report.stage, "error", str(error)))
    report.seconds = time.monotonic() - started
    return report


def _check(request: CheckRequest, report: CheckReport, progress: Progress) -> None:
    from tscnc_deploy.bundle import open_bundle
    from tscnc_deploy.check.attack import Baseline, check_same_task, more_attacks
    from tscnc_deploy.check.batches import check_batches
    from tscnc_deploy.check.gates import check_engine_losses
    from tscnc_deploy.check.images import (
        check_images,
        draw_images,
        evidence_images,
        images_missing,
        lacks_images,
        supply_images,
    )
    from tscnc_deploy.check.networks import check_networks
    from tscnc_deploy.check.policy import choose_policy
    from tscnc_deploy.check.provenance import check_signature
    from tscnc_deploy.check.replay import Replay
    from tscnc_deploy.check.reproduction import compare_rebuilt

    def collect(stage: str, make: Callable[[], Iterable[CheckResult]]) -> None:
        report.stage, before = stage, time.monotonic()
        for result in make():
            spent, before = time.monotonic() - before, time.monotonic()
            report.results.append(result if result.seconds else _timed(result, spent))

    started = time.monotonic()
    bundle = open_bundle(request.bundle)
    report.results.append(CheckResult("files: match the manifest", "passed", seconds=time.monotonic() - started))
    collect("signature", lambda: [check_signature(bundle, request)])
    report.stage = "baseline"
    baseline = None
    if request.baseline is not None:
        baseline = Baseline(open_bundle(request.baseline), request.margin)
        check_same_task(bundle, baseline.bundle)
    report.stage = "images"
    bundle, reference = supply_images(bundle, baseline.bundle if baseline else None, request)
    if reference:
        baseline = Baseline(reference, request.margin)
    report.stage = "recipe"
    policy = choose_policy(bundle, baseline.bundle if baseline else None, request.recipe, request.overrides)
    report.policy = policy.name
    for stage, make in checks_without_running(bundle, policy).items():
        collect(stage, make)
    if (rebuild := request.rebuild) is not None:
        collect("reproduced", lambda: compare_rebuilt(bundle, rebuild(bundle)))
    if missing := [each for each in (bundle, reference) if each and lacks_images(each)]:
        collect("images", lambda: [images_missing(each) for each in missing])
        return
    report.stage = "images"
    images = reference or bundle
    shown = draw_images(bundle, policy, request) if request.draws else evidence_images(images)
    collect("images", lambda: check_images(images, shown, reference, request))
    names = list(dict.fromkeys(request.engines))
    if not names:
        collect("engines", lambda: _choose(bundle, policy, names))
    dependent, pixels = set(), shown.images.numpy()
    for name in names:
        collect(f"{name}: batches", lambda name=name: [check_batches(bundle, name, pixels, request.seed)])  # type: ignore[misc]
        if report.results[-1].outcome == "failed":
            dependent.add(name)
    # What another batch would change is not worth measuring.
    if not (names := [name for name in names if name not in dependent]):
        return
    replay = Replay(bundle, policy, shown, request.seed)
    for name in dict.fromkeys(("twin", *names)):
        collect(f"{name}: replay", lambda name=name: replay.check(name))  # type: ignore[misc]
    if not shown.drawn:
        collect("engine losses", lambda: check_engine_losses(bundle, names, policy))
    unproved: set[str] = set()
    collect("networks", lambda: check_networks(bundle, policy, unproved, pixels))
    added = {name: more_attacks(name, unproved, replay.scoreless) for name in names}
    _attack(bundle, names, policy, baseline, shown, request, report, progress, added)


def checks_without_running(bundle: Bundle, policy: Policy) -> dict[str, Callable[[], Iterable[CheckResult]]]:
    """The checks that run no engine and attack nothing, by the name of their stage, in order."""
    from tscnc_deploy.check.claims import check_claims
    from tscnc_deploy.check.consistency import check_environment, check_evidence, check_record, check_schema
    from tscnc_deploy.check.counted import check_counted
    from tscnc_deploy.check.figures import check_figures
    from tscnc_deploy.check.gates import check_gates
    from tscnc_deploy.check.policy import compare_policy
    from tscnc_deploy.check.provenance import check_provenance
    from tscnc_deploy.check.rendered import check_rendered
    from tscnc_deploy.check.sparsity import check_structure, count_files
    from tscnc_deploy.check.stored import check_stored
    from tscnc_deploy.check.threat import check_threat

    def structure() -> Iterable[CheckResult]:
        counted = count_files(bundle)
        yield from check_structure(bundle, policy, counted)
        yield from check_counted(bundle, {path: file.structure for path, file in counted.items()})

    return {
        "stored": lambda: check_stored(bundle),
        "provenance": lambda: check_provenance(bundle),
        "environment": lambda: [check_environment(bundle)],
        "threat model": lambda: [check_threat(bundle)],
        "record": lambda: [check_schema(bundle), *check_record(bundle)],
        "figures": lambda: check_figures(bundle),
        "report": lambda: [check_rendered(bundle)],
        "claims": lambda: [check_claims(bundle)],
        "gates": lambda: compare_policy(bundle, policy),
        "evidence": lambda: check_evidence(bundle),
        "structure": structure,
        "limits": lambda: check_gates(bundle, policy),
    }


def _timed(result: CheckResult, seconds: float) -> CheckResult:
    return replace(result, seconds=seconds)


def _choose(bundle: Bundle, policy: Policy, names: list[str]) -> Iterable[CheckResult]:
    """Adds the engines that this machine can run to `names`; reports the others.

    If there is one to run, they are skipped; but a policy of the user's own is not met by what was not run.
    """
    reasons = {}
    for name in bundle.engines:
        try:
            bundle.engine(name)
        except UnavailableError as error:
            reasons[name] = str(error)
        else:
            names.append(name)
    for name, reason in reasons.items():
        if names and policy.source != "bundle":
            reason = f"{reason}; to leave it out, name the engines to check with --engine"
            yield CheckResult(f"{name}: runs here", "not checked", reason)
        else:
            yield CheckResult(f"{name}: runs here", "skipped" if names else "unavailable", reason)
    if not bundle.engines:
        msg = f"{bundle.path}: contains no engine"
        raise InputError(msg)


def _attack(
    bundle: Bundle,
    names: list[str],
    policy: Policy,
    baseline: Baseline | None,
    shown: Shown,
    request: CheckRequest,
    report: CheckReport,
    progress: Progress,
    added: Mapping[str, tuple[str, ...]],
) -> None:
    from tscnc_deploy.check.attack import (
        after_equal,
        beside_baseline,
        beside_record,
        check_signs,
        counterpart,
        gates_of,
        network_of,
        to_attack,
    )
    from tscnc_deploy.check.gates import fresh_engine_loss
    from tscnc_deploy.check.graphs import flat_operators
    from tscnc_deploy.robustness import ModelVictim, Reference
    from tscnc_deploy.verify.sources.base import ready

    limit = policy.recipe.gates.engine_loss if shown.drawn else None
    engines = [name for name in names if name != "twin"]
    victims = len(names) * (2 if baseline else 1) + (limit is not None and bool(engines))
    plan = _plan(policy, request, victims)
    twin = None
    if limit is not None and engines:
        report.stage = "twin: fresh attack"
        artifact = to_attack(bundle, "twin", policy, (), shown)
        twin = _verify(bundle, artifact, replace(plan, masking=False), progress, 1, names)
    attacked: dict[str, VerifyResult] = {}
    # The engine that skips zeros answers soonest, so it makes the searches that others of its file need not repeat.
    for position, name in enumerate(sorted(names, key=lambda name: not _skips_zeros(bundle, name)), 1):
        report.stage = f"{name}: fresh attack"
        network = network_of(bundle, name)
        # Without a baseline, which is compared image by image, an engine of a file that was attacked already needs only
        # what is the engine's own.
        if baseline is None and (equal := attacked.get(network)):
            artifact = after_equal(bundle, name, equal, policy, request.attacks, added[name])
            ours = _verify(bundle, artifact, replace(plan, masking=False), progress, position, names)
            report.engines[name] = ours.to_json()
            report.results += [check_signs(name, ours, equal), *gates_of(name, ours)]
            report.results += beside_record(name, ours, bundle)
            if limit is not None and twin is not None:
                report.results += fresh_engine_loss(name, twin, ours, limit)
            continue
        reference, surrogate = None, None
        if baseline:
            # It goes first, as the checked bundle is compared with it. It is trusted not to mask its gradients.
            other = counterpart(baseline.bundle, name)
            artifact = to_attack(baseline.bundle, other, policy, request.attacks, shown)
            theirs = _verify(baseline.bundle, artifact, replace(plan, masking=False), progress, position, names)
            report.baseline[name] = {"engine": other, **theirs.to_json()}
            found = theirs.evaluation
            reference = Reference(found.robust_mask, theirs.measured.case.victim, found.adversarial)
            surrogate = ModelVictim(ready(baseline.bundle.twin, plan.device))
        artifact = to_attack(bundle, name, policy, request.attacks, shown, added[name])
        signs = tuple(flat_operators(bundle, TWIN if name == "twin" else bundle.twin_path(name)))
        ours = _verify(bundle, artifact, replace(plan, signs=signs), progress, position, names, reference, surrogate)
        attacked[network] = ours
        report.engines[name] = ours.to_json()
        report.results += [check_signs(name, ours), *gates_of(name, ours), *beside_record(name, ours, bundle)]
        if limit is not None and twin is not None and name != "twin":
            report.results += fresh_engine_loss(name, twin, ours, limit)
        if baseline and (comparison := ours.measured.comparison):
            report.results.append(beside_baseline(name, comparison, other, baseline.margin))


def _skips_zeros(bundle: Bundle, name: str) -> bool:
    entry = bundle.manifest.engines.get(name)
    return entry is not None and entry.kind == "sparse-cpu"


def _plan(policy: Policy, request: CheckRequest, victims: int) -> Plan:
    """The same for all; each victim has its part of the budget."""
    from tscnc_deploy.verify.budget import Budget
    from tscnc_deploy.verify.plan import Plan

    whole = request.budget
    part = whole and Budget(
        None if whole.seconds is None else whole.seconds / victims,
        None if whole.queries is None else max(whole.queries // victims, 1),
    )
    return Plan(
        threat=policy.threat,
        limits={"clean": policy.recipe.gates.clean, "robust": policy.recipe.gates.robust},
        seed=request.seed,
        batch_size=policy.recipe.verify.batch_size,
        device=request.device,
        budget=part,
        masking_steps=10,  # as many as the fresh attack has
        stronger=True,
        batches=False,  # `check_batches` did
    )


def _verify(
    bundle: Bundle,
    artifact: Artifact,
    plan: Plan,
    progress: Progress,
    position: int,
    names: list[str],
    reference: Reference | None = None,
    surrogate: Victim | None = None,
) -> VerifyResult:
    from tscnc_deploy.robustness.sharding.work import shards_shown_by
    from tscnc_deploy.verify.run import verify_artifact

    name = artifact.source.name
    progress.start(f"{bundle.path.name} {name}", position, len(names))
    shards = shards_shown_by(progress)
    found = verify_artifact(artifact, plan, None, shards, reference=reference, surrogate=surrogate)
    progress.finish(name, cached=False, seconds=sum(found.evaluation.seconds.values()))
    return found
