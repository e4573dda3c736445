"""One evaluation from attacks to gates; used by builds, `verify` and `check`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from tscnc_deploy.data.sampling import stratified
from tscnc_deploy.devices import deterministic
from tscnc_deploy.errors import InputError
from tscnc_deploy.record import Comparison, MaskingWarning, Measure, Parity
from tscnc_deploy.robustness import checks
from tscnc_deploy.robustness.attacks.base import Attack
from tscnc_deploy.robustness.batches import require_independent_images
from tscnc_deploy.robustness.eot import check_repeatable
from tscnc_deploy.robustness.evaluation import Evaluation
from tscnc_deploy.robustness.gates import at_least
from tscnc_deploy.robustness.masking import check_masking, masking_queries
from tscnc_deploy.robustness.measures.registry import measure
from tscnc_deploy.robustness.parity import compare_logits
from tscnc_deploy.robustness.sharding.shards import evaluate_in_shards
from tscnc_deploy.robustness.sharding.work import ShardProgress
from tscnc_deploy.robustness.sharding.workers import InProcess, Workers
from tscnc_deploy.robustness.statistics.comparison import compare
from tscnc_deploy.robustness.statistics.guessing import guessing
from tscnc_deploy.robustness.statistics.intervals import images_to_settle
from tscnc_deploy.robustness.statistics.sequential import Decision
from tscnc_deploy.robustness.stronger import STRONGER_QUERIES, merge, stronger_attacks
from tscnc_deploy.robustness.threat import Threat
from tscnc_deploy.robustness.victims import EngineVictim, Victim, batched_logits
from tscnc_deploy.seeds import derive_generator

Share = Literal["clean", "robust"]

# A few images are enough to see signs of masking, and the search costs about as much as a strong attack.
MASKING_IMAGES = 128
# Number of images for detecting a randomised victim.
_ASKED_TWICE = 16
# Used even if little of the budget is left, so that slow models cannot avoid the search.
_LEAST_MASKING_IMAGES = 16
_LEAST_STRONGER_IMAGES = 32


@dataclass(frozen=True, eq=False)
class Reference:
    """A classifier to compare a case with, image by image.

    Attributes:
        robust: bool [N], whether it was robust on each image under its own attacks.
        victim: Also attacked with the case's adversarial examples; None compares both under their own attacks.
        adversarial: float32 [N, C, H, W], its examples, with which the case's victim is also attacked; None if the
            case's attacks already replay them.
    """

    robust: Tensor
    victim: Victim | None = None
    adversarial: Tensor | None = None


@dataclass(frozen=True, eq=False)
class EvalCase:
    """A victim to evaluate, the attacks, and the gates that it must pass.

    Attributes:
        victim: What is attacked.
        images: float32 [N, C, H, W] in [0, 1].
        labels: int64 [N].
        threat: How far images may be moved.
        attacks: At least one, with different names.
        gates: Minimum clean and robust accuracy, in [0, 1).
        cascade: Whether each attack runs only on images that are robust to the earlier ones.
        seed: Seed of all random numbers.
        batch_size: Images per forward pass.
        masking: Whether to check for signs of gradient masking, on at most `MASKING_IMAGES` images.
        masking_steps: Steps of APGD in that check.
        signs: Signs of masking that are known beforehand; they count like those that the check finds.
        stronger: Whether signs of masking lead to a stronger attack, which then counts like the others.
        surrogate: Another model with gradients, whose adversarial examples are also tried in that check.
        measures: Names of additional measures, see `MEASURES`.
        tolerance: Largest allowed difference between a logit of an engine and of its twin; None does not compare them.
        reference: A classifier to compare the victim with.
        batches: Whether to refuse a victim whose answer to an image depends on its batch; False if the caller did.
        batch_seconds: How long that may take, see `batch_dependence`.
    """

    victim: Victim
    images: Tensor
    labels: Tensor
    threat: Threat
    attacks: Sequence[Attack]
    gates: Mapping[Share, float] = field(default_factory=dict)
    cascade: bool = False
    seed: int = 0
    batch_size: int = 256
    masking: bool = True
    masking_steps: int = 20
    signs: Sequence[MaskingWarning] = ()
    stronger: bool = False
    surrogate: Victim | None = None
    measures: Sequence[str] = ()
    tolerance: float | None = None
    reference: Reference | None = None
    batches: bool = True
    batch_seconds: float = math.inf

    def select(self, rows: Tensor) -> EvalCase:
        """The case with some of its images, given an int64 index; tensors of attacks and reference are not reduced."""
        return replace(self, images=self.images[rows], labels=self.labels[rows])


@dataclass(frozen=True)
class GateDecision:
    """The decision of a sequential test on one gate.

    Attributes:
        limit: The required share.
        decision: "undecided" if all images were not enough.
        images: Number of images after which it was made.
        low: Lower end of the interval, which accounts for the repeated looks.
        high: Upper end.
    """

    limit: float
    decision: Decision
    images: int
    low: float
    high: float


class Stop(Protocol):
    """Ends an evaluation before its last image, such as when a budget is spent."""

    @property
    def decisions(self) -> Mapping[Share, GateDecision]:
        """The decisions of sequential tests, by gate; empty without such tests."""
        ...

    @property
    def reason(self) -> str | None:
        """Why the evaluation ended early; None if it did not."""
        ...

    @property
    def confidence(self) -> float:
        """Confidence of all intervals, chosen so that they hold wherever the evaluation ends."""
        ...

    def __call__(self, known: Evaluation) -> bool:
        """Whether to end, given the evaluation of all images so far."""
        ...

    def round_size(self, known: Evaluation | None) -> int | None:
        """Largest number of images of the next round, given the results so far; None means no limit."""
        ...

    def affords(self, known: Evaluation, queries: int, besides: int = 0) -> int | None:
        """Number of images for which the rest of the budget allows `queries` queries each; None means no limit.

        Args:
            known: The results so far.
            queries: Number of queries per image, at least 1.
            besides: Number of queries already spent that `known` does not count.
        """
        ...


@dataclass(frozen=True, eq=False)
class CaseResult:
    """The results of a case; tensors are on the CPU.

    Attributes:
        case: The case with the images that were evaluated, in the order of `evaluation`.
        evaluation: The evaluation under the attacks.
        gates: Each limit, the measured value, and "images_to_settle" if the result is inconclusive.
        warnings: Signs of gradient masking, and a warning if clean accuracy cannot be told from guessing; None if there
            is no such warning and was no check for masking, as for a victim without gradients.
        stronger: Names of the attacks that ran because of them.
        measures: Additional measures, by name.
        predictions: int64 [N], the predicted class of each clean image.
        adversarial_predictions: int64 [N], the predicted class of each adversarial example.
        parity: Difference between the engine's and its twin's logits, on images and adversarial examples.
        comparison: The paired comparison with the reference.
        stopped: Why the evaluation ended before the last image, and after how many; None if it did not.
    """

    case: EvalCase
    evaluation: Evaluation
    gates: list[dict[str, Any]]
    warnings: list[MaskingWarning] | None
    stronger: tuple[str, ...]
    measures: dict[str, Measure]
    predictions: Tensor
    adversarial_predictions: Tensor
    parity: Parity | None
    comparison: Comparison | None
    stopped: dict[str, Any] | None

    @property
    def passed(self) -> bool:
        """Whether every gate was passed."""
        return all(gate["passed"] for gate in self.gates)


def evaluate_case(
    case: EvalCase,
    *,
    shard_size: int = 256,
    store: Path | None = None,
    identity: str = "",
    workers: Workers | None = None,
    stop: Stop | None = None,
    progress: ShardProgress | None = None,
) -> CaseResult:
    """Attacks, checks for signs of masking, measures, compares, and checks the gates.

    Args:
        case: The case to evaluate.
        shard_size: See `evaluate_in_shards`, also for the next four.
        store: Folder for finished shards.
        identity: Identifies the victim in the store.
        workers: The workers that evaluate; by default this process. Only the leading process does what is not an
            attack: in the others `warnings` is None and `measures` is empty.
        stop: Ends the evaluation early. The images must then be in an order in which every prefix is representative.
        progress: See `ShardProgress`.

    Raises:
        InputError: The input would give a wrong result, see `evaluate`; the victim's answer to an image depends on its
            batch; or there is a tolerance without a twin.
    """
    if case.tolerance is not None and not isinstance(case.victim, EngineVictim):
        msg = f"a tolerance of {case.tolerance:g} needs an engine with its twin, not {type(case.victim).__name__}"
        raise InputError(msg)
    workers = workers or InProcess()
    confidence = stop.confidence if stop else 0.95
    total = len(case.labels)

    def attack(part: EvalCase, attacks: Sequence[Attack], *, cascade: bool, until: Stop | None = None) -> Evaluation:
        return evaluate_in_shards(
            part.victim,
            part.images,
            part.labels,
            part.threat,
            attacks,
            shard_size=shard_size,
            store=store,
            identity=identity,
            workers=workers,
            until=until,
            round_size=until.round_size if until else None,
            seed=part.seed,
            batch_size=part.batch_size,
            confidence=confidence,
            cascade=cascade,
            progress=progress,
        )

    with deterministic(tf32=False):
        if case.batches:
            checks.check_images(case.images, case.labels)
            checks.check_attacks(case.attacks, case.victim)
            # More images of a slow victim could exceed a budget; `evaluate` looks again at each shard.
            check_repeatable(case.victim, case.images[: 1 if stop else _ASKED_TWICE])
            require_independent_images(
                case.victim, case.images, batch_size=case.batch_size, seed=case.seed, seconds=case.batch_seconds
            )
        evaluation = attack(case, case.attacks, cascade=case.cascade, until=stop)
        if evaluation.clean.total < total:
            case = case.select(torch.arange(evaluation.clean.total))
        warnings, searched = None, 0
        if case.masking and case.victim.has_gradient and workers.leads:
            warnings, searched = _signs_of_masking(case, evaluation, stop, progress)
            warnings = [*case.signs, *warnings]
        stronger: list[Attack] = []
        if case.stronger and (signs := workers.share([sign.name for sign in warnings or []])):
            count = workers.share(_affordable(evaluation, stop, searched))
            seen = torch.arange(count)
            case, evaluation = case.select(seen), evaluation.select(seen, confidence)
            left = evaluation.robust_mask.nonzero().squeeze(1)
            if len(left):
                part = case.select(left)
                stronger = stronger_attacks(
                    signs,
                    part.attacks,
                    part.victim,
                    part.images,
                    part.labels,
                    part.threat,
                    part.surrogate,
                    seed=part.seed,
                    batch_size=part.batch_size,
                )
            if stronger:
                evaluation = merge(evaluation, left, attack(part, stronger, cascade=True), confidence)
        if (doubt := guessing(evaluation.clean, case.labels)) is not None:
            warnings = [*(warnings or ()), doubt]
        both = (case.images, evaluation.adversarial)
        logits = [batched_logits(case.victim, images, case.batch_size) for images in both]
        return CaseResult(
            case=case,
            evaluation=evaluation,
            gates=_gates(case, evaluation, stop.decisions if stop and not stronger else {}),
            warnings=warnings,
            stronger=tuple(each.name for each in stronger),
            measures={name: _measure(name, case, progress) for name in case.measures if workers.leads},
            predictions=logits[0].argmax(1),
            adversarial_predictions=logits[1].argmax(1),
            parity=_parity(case, evaluation, logits),
            comparison=_comparison(case, evaluation),
            stopped=_stopped(stop, evaluation.clean.total, total),
        )


def _signs_of_masking(
    case: EvalCase, evaluation: Evaluation, stop: Stop | None, progress: ShardProgress | None
) -> tuple[list[MaskingWarning], int]:
    """The signs, and about how many queries the search for them took."""
    count = min(len(case.labels), MASKING_IMAGES)
    queries = masking_queries(evaluation, case.masking_steps)
    affordable = stop.affords(evaluation, queries) if stop else None
    if affordable is not None:
        count = min(count, max(affordable, _LEAST_MASKING_IMAGES))
    rows = stratified(case.labels, count, derive_generator(case.seed, "masking"))
    if progress:
        progress("signs of gradient masking", 0, 1, None)
    signs = check_masking(
        case.victim,
        case.images[rows],
        case.labels[rows],
        case.threat,
        evaluation.select(rows),
        surrogate=case.surrogate,
        steps=case.masking_steps,
        seed=case.seed,
        batch_size=case.batch_size,
    )
    return signs, queries * count


def _affordable(evaluation: Evaluation, stop: Stop | None, searched: int) -> int:
    """Number of images, from the first on, that the budget allows to attack further; only robust ones cost queries.

    `searched` is the number of queries that the search for masking took.
    """
    total = evaluation.clean.total
    images = stop.affords(evaluation, STRONGER_QUERIES, searched) if stop else None
    if images is None:
        return total
    return min(max(int((evaluation.robust_mask.cumsum(0) <= images).sum()), _LEAST_STRONGER_IMAGES), total)


def _gates(case: EvalCase, evaluation: Evaluation, decisions: Mapping[Share, GateDecision]) -> list[dict[str, Any]]:
    """Each limit and the measured value; if inconclusive, also the number of images that would settle it."""
    gates = []
    for what, limit in case.gates.items():
        share, decision = getattr(evaluation, what), decisions.get(what)
        if decision:
            share = share.model_copy(update={"low": decision.low, "high": decision.high})
        gate = at_least(f"{what} accuracy, lower end", share, limit)
        more: dict[str, Any] = {"decided_after": decision.images} if decision else {}
        if gate.inconclusive:
            more |= {"images_to_settle": images_to_settle(share, limit)}
        gates.append(gate.to_json() | more)
    return gates


def _measure(name: str, case: EvalCase, progress: ShardProgress | None) -> Measure:
    def report(what: str, done: int, total: int) -> None:
        if progress:
            progress(f"{name}: {what}", done, total, None)

    return measure(
        name,
        case.victim,
        case.images,
        case.labels,
        case.threat,
        seed=case.seed,
        batch_size=case.batch_size,
        progress=report,
    )


def _parity(case: EvalCase, evaluation: Evaluation, logits: Sequence[Tensor]) -> Parity | None:
    if case.tolerance is None or not isinstance(case.victim, EngineVictim):
        return None
    both = (case.images, evaluation.adversarial)
    clean, adversarial = (batched_logits(case.victim.twin, images, case.batch_size) for images in both)
    return compare_logits(logits[0], clean, logits[1], adversarial, case.tolerance)


def _comparison(case: EvalCase, evaluation: Evaluation) -> Comparison | None:
    """A paired comparison, image by image; one of the evaluations may have been ended earlier by a budget."""
    if (reference := case.reference) is None:
        return None
    count = min(len(case.labels), len(reference.robust))
    labels = case.labels[:count].cpu()
    before, now = reference.robust[:count], evaluation.robust_mask[:count]
    if reference.victim is not None:
        logits = batched_logits(reference.victim, evaluation.adversarial[:count], case.batch_size)
        before = before & (logits.argmax(1) == labels)
    if reference.adversarial is not None:
        logits = batched_logits(case.victim, reference.adversarial[:count], case.batch_size)
        now = now & (logits.argmax(1) == labels)
    return compare(before, now)


def _stopped(stop: Stop | None, images: int, total: int) -> dict[str, Any] | None:
    if stop is None or (stop.reason is None and images == total):
        return None
    return {"reason": stop.reason or "the budget is spent", "images": images, "of": total}
