"""A fresh bounded attack on one engine, and the comparison with the same attack on a baseline."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tscnc_deploy.check.result import CheckResult, Outcome, pass_or_fail
from tscnc_deploy.errors import InputError, UnavailableError
from tscnc_deploy.record import GUESSING

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.check.images import Shown
    from tscnc_deploy.check.policy import Policy
    from tscnc_deploy.record import Comparison
    from tscnc_deploy.verify.artifact import Artifact
    from tscnc_deploy.verify.run import VerifyResult

# The first has the twin's gradient, the second finds one behind steps that hide it, and the third has only the engine's
# answers, which no masked gradient can mislead.
ATTACKS = ("twin-apgd-10", "bpda-20", "square-50")
TWIN_ATTACKS = ("apgd-ce-10", "bpda-20", "square-50")
# For an engine that opens a file which another engine opened: all that was found for that one is replayed on it first.
_OWN_SEARCH = ("square-10",)
# For an engine that was not shown to compute its twin's network: searches where the two differ.
_GAP = ("gap-20",)


@dataclass(frozen=True)
class Baseline:
    """What a bundle must not be worse than.

    Attributes:
        bundle: Opened; its evidence images are attacked, as the checked bundle's maker did not choose them.
        margin: Largest share of robust accuracy that may be lost, in [0, 1).
    """

    bundle: Bundle
    margin: float


def more_attacks(name: str, unproved: Collection[str], scoreless: Collection[str]) -> tuple[str, ...]:
    """The attacks that what was found about an engine calls for.

    Args:
        name: The engine.
        unproved: Engines that were not shown to compute their twin's network.
        scoreless: Engines whose answers give no score.
    """
    from tscnc_deploy.robustness.scores import LABEL_ONLY

    gap = _GAP if name in unproved else ()
    return (*gap, *(LABEL_ONLY if name in scoreless else ()))


def to_attack(
    bundle: Bundle,
    name: str,
    policy: Policy,
    attacks: tuple[str, ...],
    shown: Shown,
    added: tuple[str, ...] = (),
) -> Artifact:
    """An engine on the shown images; the examples of its own bundle are replayed if they are of these images.

    Args:
        bundle: Contains the engine.
        name: The engine, or "twin".
        policy: The recipe that applies.
        attacks: Names of the attacks; empty takes the default ones.
        shown: The images to attack.
        added: Names of further attacks, see `more_attacks`.
    """
    import torch

    from tscnc_deploy.check.images import first_of_each
    from tscnc_deploy.verify import BundleSource
    from tscnc_deploy.verify.artifact import REPLAY, Artifact, on_evidence

    own = on_evidence(bundle, name, policy.recipe, None, 0)
    own = own.select(torch.tensor(first_of_each(own.images), dtype=torch.int64))
    fits = torch.equal(own.images, shown.images) and torch.equal(own.labels, shown.labels)
    examples = own.examples if fits else None
    chosen = attacks or (TWIN_ATTACKS if name == "twin" else ATTACKS)
    return Artifact(
        source=BundleSource(bundle.path, name),
        images=shown.images,
        labels=shown.labels,
        index=own.index if fits else torch.arange(len(shown.labels)),
        classes=tuple(bundle.manifest.model.classes),
        examples=examples,
        attacks=(*([] if examples is None else [REPLAY]), *chosen, *added),
    )


def network_of(bundle: Bundle, name: str) -> str:
    """What tells whether two engines compute the same: digests of the ONNX file that they open and of their twin.

    For an engine that opens another file, such as TensorRT's, it is the name.
    """
    if name == "twin" or bundle.target(name).engine not in ("onnxruntime", "sparse-cpu"):
        return name
    files, folder = bundle.manifest.files, bundle.entry(name).folder
    return f"{files[f'{folder}/model.onnx'].sha256} {files[bundle.twin_path(name)].sha256}"


def after_equal(
    bundle: Bundle,
    name: str,
    equal: VerifyResult,
    policy: Policy,
    attacks: tuple[str, ...],
    added: tuple[str, ...] = (),
) -> Artifact:
    """An engine that opens a file which was attacked as another engine: it gets what was found there.

    Replayed are the other engine's successful examples, on other images its own stored ones. A short search asks this
    engine, as the two compute the same file with different code.

    Args:
        bundle: The bundle.
        name: The engine.
        equal: The result for the other engine.
        policy: What the bundle is checked against.
        attacks: The attacks that were asked for, of which those without gradients run again; empty for the default.
        added: Names of further attacks, see `more_attacks`.
    """
    import torch

    from tscnc_deploy.robustness import parse_attacks
    from tscnc_deploy.verify import BundleSource
    from tscnc_deploy.verify.artifact import REPLAY, on_evidence

    found = equal.evaluation.adversarial
    own = on_evidence(bundle, name, policy.recipe, None, 0).examples
    if own is not None and equal.artifact.examples is not None:
        kept = equal.evaluation.robust_mask.view(-1, 1, 1, 1)
        found = torch.where(kept, own[equal.artifact.index], found)
    named = parse_attacks((*(attacks or _OWN_SEARCH), *added))
    searches = [attack.name for attack in named if not attack.needs_gradient]
    return replace(equal.artifact, source=BundleSource(bundle.path, name), examples=found, attacks=(REPLAY, *searches))


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


def check_signs(name: str, result: VerifyResult, equal: VerifyResult | None = None) -> CheckResult:
    """A sign that robust accuracy is overstated fails, unless the gates hold after the attacks that it calls for.

    A network without gradients fails in any case.

    Args:
        name: The engine.
        result: Of a search for signs, and of stronger attacks if there were any; see `Plan.stronger`.
        equal: The result for an engine that opens the same file, where the search was made.
    """
    title, measured = f"{name}: signs of gradient masking", result.measured
    if equal is not None:
        result_there = check_signs(name, equal)
        said = f"{equal.artifact.source.name} opens the same file, and its gradients are the same twin's"
        return replace(result_there, message="; ".join(filter(None, (result_there.message, said))))
    signs = [sign for sign in measured.warnings or () if sign.name != GUESSING]
    # That clean accuracy is that of guessing is said without any search.
    guessed = measured.warnings and not signs
    if measured.warnings is None or (guessed and not (measured.case.masking and measured.case.victim.has_gradient)):
        return CheckResult(title, "skipped", "there was no search: without gradients there are none to mask")
    if not signs:
        return CheckResult(title, "passed")
    said = "; ".join(f"{sign.name}: {sign.message}" for sign in signs)
    tried = " and ".join(measured.stronger) or "the attacks that were asked for"
    held = "the gates hold against" if result.passed else "the gates do not hold against"
    # Robustness that no attack with gradients could test was not shown, whatever the other searches find.
    untested = any(sign.name == "no-gradients" for sign in signs)
    return CheckResult(title, "note" if result.passed and not untested else "failed", f"{said}; {held} {tried}")


def gates_of(name: str, result: VerifyResult) -> Iterator[CheckResult]:
    """The bounds on clean and robust accuracy."""
    evaluation = result.evaluation
    seconds = sum(evaluation.seconds.values())
    stopped = result.measured.stopped
    for gate in result.measured.gates:
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


def beside_record(name: str, result: VerifyResult, bundle: Bundle) -> Iterator[CheckResult]:
    """Whether the recorded robust accuracy is what a fresh attack leaves.

    The maker of a bundle chooses the attacks of the build, or may have them do nothing. Figures whose intervals have no
    value in common contradict each other.

    Args:
        name: The engine, or "twin".
        result: The fresh attack on it.
        bundle: With the record.
    """
    told = bundle.record.evaluations.named.get(name)
    threat = result.measured.case.threat
    if told is None or told.robust is None or (threat.norm, threat.epsilon) != (told.norm, told.epsilon):
        return
    found = result.evaluation.robust
    message = (
        f"{found.correct} of {found.total} images, at most {found.high:.1%} of all, are robust to it; the record says "
        f"{told.robust.accuracy:.1%}, at least {told.robust.low:.1%}: the build's attacks were weaker"
    )
    title = f"{name}: robust accuracy is not less than recorded"
    yield pass_or_fail(title, found.high >= told.robust.low, message, found.high, told.robust.low)


def beside_baseline(name: str, found: Comparison, other: str, margin: float) -> CheckResult:
    """Paired non-inferiority: both face the examples that were found for either, image by image.

    Args:
        name: The engine.
        found: What it loses against the baseline's.
        other: The baseline's engine.
        margin: Largest share of robust accuracy that may be lost.
    """
    from tscnc_deploy.robustness import loses_at_most

    title = f"{name}: robust accuracy lost to the baseline, upper bound"
    gate = loses_at_most(title, found, margin)
    said = (
        f"{found.lost} images lost and {found.gained} gained of {found.total} against the baseline's "
        f"{other}; McNemar p = {found.mcnemar_p:.3g}"
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


def counterpart(baseline: Bundle, name: str) -> str:
    """The baseline's engine of the same name if this machine runs it, else its twin."""
    if name in baseline.engines:
        try:
            baseline.engine(name)
        except UnavailableError:
            return "twin"
        return name
    return "twin"
