"""A fresh bounded attack on one engine, and the comparison with the same attack on a baseline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tscnc_deploy.check.result import CheckResult, Outcome
from tscnc_deploy.errors import InputError, UnavailableError

if TYPE_CHECKING:
    from torch import Tensor

    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.check.policy import Policy
    from tscnc_deploy.robustness import Comparison
    from tscnc_deploy.verify.cases import EvalCase
    from tscnc_deploy.verify.plan import Plan
    from tscnc_deploy.verify.run import VerifyResult

# The first has the twin's gradient, the second only the engine's answers, which no masked gradient can mislead.
ATTACKS = ("twin-apgd-10", "square-50")
TWIN_ATTACKS = ("apgd-ce-10", "square-50")


@dataclass(frozen=True)
class Baseline:
    """What a bundle must not be worse than.

    Attributes:
        bundle: Opened; its evidence images are attacked, as the checked bundle's maker did not choose them.
        margin: Largest share of robust accuracy that may be lost, in [0, 1).
    """

    bundle: Bundle
    margin: float


def fresh_case(bundle: Bundle, name: str, policy: Policy, attacks: tuple[str, ...], images: Bundle) -> EvalCase:
    """An engine on the evidence images of its own bundle or of another; its own examples are replayed if they fit.

    Raises:
        InputError: The two bundles' images or classes are not the same.
    """
    import torch

    from tscnc_deploy.verify import BundleSource
    from tscnc_deploy.verify.cases import REPLAY, evidence_case

    check_same_task(bundle, images)
    drawn = evidence_case(images, name, policy.recipe, None, 0)
    own = evidence_case(bundle, name, policy.recipe, None, 0)
    fits = torch.equal(own.images, drawn.images) and torch.equal(own.labels, drawn.labels)
    examples = own.examples if fits else None
    chosen = attacks or (TWIN_ATTACKS if name == "twin" else ATTACKS)
    return replace(
        drawn,
        source=BundleSource(bundle.path, name),
        examples=examples,
        attacks=(*([] if examples is None else [REPLAY]), *chosen),
    )


def check_same_task(bundle: Bundle, other: Bundle) -> None:
    """Refuses two bundles that do not classify the same kind of images into the same classes.

    Raises:
        InputError: Says what differs.
    """
    ours, theirs = bundle.manifest.model, other.manifest.model
    if ours.input_shape != theirs.input_shape:
        msg = f"{other.path}: is for images {list(theirs.input_shape)}, {bundle.path} for {list(ours.input_shape)}"
        raise InputError(msg)
    if ours.classes != theirs.classes:
        msg = f"{other.path}: has other classes, or the same in another order, than {bundle.path}"
        raise InputError(msg)


def gates_of(name: str, assessment: VerifyResult) -> Iterator[CheckResult]:
    """The bounds on clean and robust accuracy."""
    evaluation = assessment.evaluation
    seconds = sum(evaluation.seconds.values())
    stopped = assessment.stopped
    for gate in assessment.gates:
        share = evaluation.clean if gate["name"].startswith("clean") else evaluation.robust
        said = (
            f"{share.correct} of {share.total} images, {share.accuracy:.1%}, 95% interval {share.low:.1%} to "
            f"{share.high:.1%}"
        )
        if stopped:
            said += f"; ended after {stopped['images']} of {stopped['of']} images: {stopped['reason']}"
        needed = gate.get("images_to_settle")
        if gate["inconclusive"]:
            said += "; " + (f"about {needed} images in all would settle it" if needed else "no number would settle it")
        yield CheckResult(
            f"{name}: {gate['name']}",
            _outcome(gate["passed"], gate["inconclusive"]),
            said,
            gate["value"],
            gate["limit"],
            seconds,
        )
        seconds = 0.0


def beside_baseline(name: str, ours: VerifyResult, theirs: VerifyResult, margin: float, plan: Plan) -> CheckResult:
    """Paired non-inferiority: both face the examples that were found for either, image by image.

    Args:
        name: The engine.
        ours: The checked bundle's.
        theirs: The baseline's, under the same plan on the same images.
        margin: Largest share of robust accuracy that may be lost.
        plan: How both were attacked.
    """
    from tscnc_deploy.robustness import compare, loses_at_most

    # A budget may have ended one of them earlier; both took the images in the same order.
    count = min(len(ours.subject.labels), len(theirs.subject.labels))
    before = _stands(theirs, ours, count, plan)
    now = _stands(ours, theirs, count, plan)
    found = compare(before, now)
    title = f"{name}: robust accuracy lost to the baseline, upper bound"
    gate = loses_at_most(title, found, margin)
    said = (
        f"{found.lost} images lost and {found.gained} gained of {found.total} against the baseline's "
        f"{theirs.subject.source.name}; McNemar p = {found.mcnemar_p:.3g}"
    )
    if gate.inconclusive:
        needed = images_to_show(found, margin)
        said += "; " + (f"about {needed} images in all would settle it" if needed else "no number would settle it")
    return CheckResult(title, _outcome(gate.passed, gate.inconclusive), said, gate.value, gate.limit)


def _outcome(passed: bool, inconclusive: bool) -> Outcome:
    if passed:
        return "passed"
    return "inconclusive" if inconclusive else "failed"


def images_to_show(measured: Comparison, margin: float) -> int | None:
    """How many images would bring the bound of the loss down to the margin, if the shares stay what they are.

    Returns:
        None where a thousand times as many would not.
    """
    from tscnc_deploy.robustness import tango_upper_bound

    for factor in (2, 3, 5, 8, 12, 20, 30, 50, 80, 120, 200, 300, 500, 1000):
        counts = (factor * measured.lost, factor * measured.gained, factor * measured.total)
        if tango_upper_bound(*counts) <= margin:
            return counts[2]
    return None


def _stands(one: VerifyResult, other: VerifyResult, count: int, plan: Plan) -> Tensor:
    """bool [count], whether one model stands its own examples and those of the other."""
    import torch

    from tscnc_deploy.verify.share import open_victim

    victim = open_victim(one.subject.source, None, plan.device)
    labels, examples = one.subject.labels[:count], other.evaluation.adversarial[:count]
    parts = torch.split(examples, plan.batch_size)
    answers = torch.cat([victim.logits(part.to(victim.device)).argmax(1).cpu() for part in parts])
    return one.evaluation.robust_mask[:count] & (answers == labels)


def counterpart(baseline: Bundle, name: str) -> str:
    """The baseline's engine of the same name if this machine runs it, else its twin."""
    if name in baseline.engines:
        try:
            baseline.engine(name)
        except UnavailableError:
            return "twin"
        return name
    return "twin"
