"""All checks of a bundle in the order of their cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tscnc_deploy.check.request import CheckReport, Request
from tscnc_deploy.check.result import CheckResult
from tscnc_deploy.errors import InputError, UnavailableError

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.check.attack import Baseline
    from tscnc_deploy.check.policy import Policy
    from tscnc_deploy.pipeline.stages.base import Progress
    from tscnc_deploy.verify.plan import Plan
    from tscnc_deploy.verify.run import VerifyResult


def check_bundle(request: Request, progress: Progress) -> CheckReport:
    """Checks a bundle; whatever is wrong with it is a finding, not an exception.

    The first finding of bad input ends it, as nothing after it would mean anything; a failed gate does not.

    Args:
        request: What and how.
        progress: Where to report.
    """
    started = time.monotonic()
    checkup = CheckReport(request.bundle)
    try:
        _check(request, checkup, progress)
    except UnavailableError as error:
        checkup.findings.append(CheckResult(checkup.stage, "unavailable", str(error)))
    except InputError as error:
        checkup.findings.append(CheckResult(checkup.stage, "error", str(error)))
    checkup.seconds = time.monotonic() - started
    return checkup


def _check(request: Request, checkup: CheckReport, progress: Progress) -> None:
    from tscnc_deploy.bundle import open_bundle
    from tscnc_deploy.check.attack import Baseline, check_same_task
    from tscnc_deploy.check.consistency import check_environment, check_evidence, check_record
    from tscnc_deploy.check.images import bring, lacks_images, not_run
    from tscnc_deploy.check.policy import choose_policy, compare_policy
    from tscnc_deploy.check.provenance import check_provenance, check_signature
    from tscnc_deploy.check.replay import check_replay
    from tscnc_deploy.check.reproduction import compare_rebuilt
    from tscnc_deploy.check.sparsity import check_structure

    def collect(stage: str, make: Callable[[], Iterable[CheckResult]]) -> None:
        checkup.stage, before = stage, time.monotonic()
        for finding in make():
            spent, before = time.monotonic() - before, time.monotonic()
            checkup.findings.append(finding if finding.seconds else _timed(finding, spent))

    started = time.monotonic()
    bundle = open_bundle(request.bundle)
    checkup.findings.append(CheckResult("files: as listed", "passed", seconds=time.monotonic() - started))
    collect("signature", lambda: [check_signature(bundle, request)])
    checkup.stage = "baseline"
    baseline = None
    if request.baseline is not None:
        baseline = Baseline(open_bundle(request.baseline), request.margin)
        check_same_task(bundle, baseline.bundle)
    checkup.stage = "images"
    bundle, reference = bring(bundle, baseline.bundle if baseline else None, request)
    if reference:
        baseline = Baseline(reference, request.margin)
    checkup.stage = "recipe"
    policy = choose_policy(bundle, baseline.bundle if baseline else None, request.recipe, request.overrides)
    checkup.policy = policy.says
    collect("provenance", lambda: check_provenance(bundle))
    collect("environment", lambda: [check_environment(bundle)])
    collect("record", lambda: check_record(bundle))
    collect("gates", lambda: compare_policy(bundle, policy))
    collect("evidence", lambda: check_evidence(bundle))
    collect("structure", lambda: check_structure(bundle, policy))
    if (rebuild := request.rebuild) is not None:
        collect("reproduced", lambda: compare_rebuilt(bundle, rebuild(bundle)))
    if missing := [each for each in (bundle, reference) if each and lacks_images(each)]:
        collect("images", lambda: [not_run(each) for each in missing])
        return
    names = list(dict.fromkeys(request.engines))
    if not names:
        collect("engines", lambda: _choose(bundle, names))
    for name in names:
        collect(f"{name}: replay", lambda name=name: check_replay(bundle, name))  # type: ignore[misc]
    _attack(bundle, names, policy, baseline, request, checkup, progress)


def _timed(finding: CheckResult, seconds: float) -> CheckResult:
    return replace(finding, seconds=seconds)


def _choose(bundle: Bundle, names: list[str]) -> Iterable[CheckResult]:
    """Adds the engines that this machine runs; the others are named, and needed only if there is no other."""
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
        msg = f"{bundle.path}: there is no engine in it"
        raise InputError(msg)


def _attack(
    bundle: Bundle,
    names: list[str],
    policy: Policy,
    baseline: Baseline | None,
    request: Request,
    checkup: CheckReport,
    progress: Progress,
) -> None:
    from tscnc_deploy.check.attack import beside_baseline, counterpart, fresh_case, gates_of

    images = baseline.bundle if baseline else bundle
    plan = _plan(policy, request, len(names) * (2 if baseline else 1))
    for position, name in enumerate(names, 1):
        checkup.stage = f"{name}: fresh attack"
        ours = _assess(fresh_case(bundle, name, policy, request.attacks, images), plan, progress, position, names)
        checkup.engines[name] = ours.to_json()
        checkup.findings += gates_of(name, ours)
        if baseline:
            other = counterpart(baseline.bundle, name)
            subject = fresh_case(baseline.bundle, other, policy, request.attacks, images)
            theirs = _assess(subject, plan, progress, position, names)
            checkup.baseline[name] = {"engine": other, **theirs.to_json()}
            checkup.findings.append(beside_baseline(name, ours, theirs, baseline.margin, plan))


def _plan(policy: Policy, request: Request, victims: int) -> Plan:
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
        masking=False,
    )


def _assess(subject: Any, plan: Plan, progress: Progress, position: int, names: list[str]) -> VerifyResult:
    from tscnc_deploy.pipeline.stages.base import BOUNDS
    from tscnc_deploy.verify.run import verify_case

    def show(attack: str, done: int, total: int, known: Any) -> None:
        bounds = dict(zip(BOUNDS, (known.robust.low, known.robust.high), strict=True)) if known else {}
        progress.step(done, total, bounds, "", attack)

    name = subject.source.name
    progress.start(f"{subject.source.path.name} {name}", position, len(names))
    found = verify_case(subject, plan, None, show)
    progress.finish(name, cached=False, seconds=sum(found.evaluation.seconds.values()))
    return found
