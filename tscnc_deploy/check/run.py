"""Runs all checks of a bundle, the cheapest first."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from tscnc_deploy.check.request import CheckRequest
from tscnc_deploy.check.result import CheckReport, CheckResult
from tscnc_deploy.errors import InputError, UnavailableError

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.check.attack import Baseline
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
    from tscnc_deploy.check.consistency import check_environment, check_evidence, check_record, check_schema
    from tscnc_deploy.check.export import check_exports
    from tscnc_deploy.check.images import images_missing, lacks_images, supply_images
    from tscnc_deploy.check.policy import choose_policy, compare_policy
    from tscnc_deploy.check.provenance import check_provenance, check_signature
    from tscnc_deploy.check.replay import Replay
    from tscnc_deploy.check.reproduction import compare_rebuilt
    from tscnc_deploy.check.sparsity import check_structure

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
    collect("provenance", lambda: check_provenance(bundle))
    collect("environment", lambda: [check_environment(bundle)])
    collect("record", lambda: [check_schema(bundle), *check_record(bundle)])
    collect("gates", lambda: compare_policy(bundle, policy))
    collect("evidence", lambda: check_evidence(bundle))
    collect("structure", lambda: check_structure(bundle, policy))
    if (rebuild := request.rebuild) is not None:
        collect("reproduced", lambda: compare_rebuilt(bundle, rebuild(bundle)))
    if missing := [each for each in (bundle, reference) if each and lacks_images(each)]:
        collect("images", lambda: [images_missing(each) for each in missing])
        return
    names = list(dict.fromkeys(request.engines))
    if not names:
        collect("engines", lambda: _choose(bundle, names))
    replay = Replay(bundle, policy, request.seed)
    for name in dict.fromkeys(("twin", *names)):
        collect(f"{name}: replay", lambda name=name: replay.check(name))  # type: ignore[misc]
    unproved: set[str] = set()
    collect("export", lambda: check_exports(bundle, unproved))
    added = {name: more_attacks(name, unproved, replay.scoreless) for name in names}
    _attack(bundle, names, policy, baseline, request, report, progress, added)


def _timed(result: CheckResult, seconds: float) -> CheckResult:
    return replace(result, seconds=seconds)


def _choose(bundle: Bundle, names: list[str]) -> Iterable[CheckResult]:
    """Adds the engines that this machine can run to `names`; reports the others, as skipped if there is one to run."""
    reasons = {}
    for name in bundle.engines:
        try:
            bundle.engine(name)
        except UnavailableError as error:
            reasons[name] = str(error)
        else:
            names.append(name)
    for name, reason in reasons.items():
        yield CheckResult(f"{name}: runs here", "skipped" if names else "unavailable", reason)
    if not bundle.engines:
        msg = f"{bundle.path}: contains no engine"
        raise InputError(msg)


def _attack(
    bundle: Bundle,
    names: list[str],
    policy: Policy,
    baseline: Baseline | None,
    request: CheckRequest,
    report: CheckReport,
    progress: Progress,
    added: Mapping[str, tuple[str, ...]],
) -> None:
    from tscnc_deploy.check.attack import (
        after_equal,
        beside_baseline,
        check_signs,
        counterpart,
        gates_of,
        network_of,
        to_attack,
    )
    from tscnc_deploy.robustness import ModelVictim, Reference
    from tscnc_deploy.verify.sources.base import ready

    images = baseline.bundle if baseline else bundle
    plan = _plan(policy, request, len(names) * (2 if baseline else 1))
    attacked: dict[str, VerifyResult] = {}
    for position, name in enumerate(names, 1):
        report.stage = f"{name}: fresh attack"
        network = network_of(bundle, name)
        # Without a baseline, which is compared image by image, an engine of a file that was attacked already needs only
        # what is the engine's own.
        if baseline is None and (equal := attacked.get(network)):
            artifact = after_equal(bundle, name, equal, policy, request.attacks, added[name])
            ours = _verify(bundle, artifact, replace(plan, masking=False), progress, position, names)
            report.engines[name] = ours.to_json()
            report.results += [check_signs(name, ours, equal), *gates_of(name, ours)]
            continue
        reference, surrogate = None, None
        if baseline:
            # It goes first, as the checked bundle is compared with it. It is trusted not to mask its gradients.
            other = counterpart(baseline.bundle, name)
            artifact = to_attack(baseline.bundle, other, policy, request.attacks, images)
            theirs = _verify(baseline.bundle, artifact, replace(plan, masking=False), progress, position, names)
            report.baseline[name] = {"engine": other, **theirs.to_json()}
            found = theirs.evaluation
            reference = Reference(found.robust_mask, theirs.measured.case.victim, found.adversarial)
            surrogate = ModelVictim(ready(baseline.bundle.twin, plan.device))
        artifact = to_attack(bundle, name, policy, request.attacks, images, added[name])
        ours = _verify(bundle, artifact, plan, progress, position, names, reference, surrogate)
        attacked[network] = ours
        report.engines[name] = ours.to_json()
        report.results += [check_signs(name, ours), *gates_of(name, ours)]
        if baseline and (comparison := ours.measured.comparison):
            report.results.append(beside_baseline(name, comparison, other, baseline.margin))


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
        stronger=True,
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
