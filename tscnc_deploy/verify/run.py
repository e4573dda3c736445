"""Attacks a subject as the user asked, and says what it stood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from tscnc_deploy.errors import InputError
from tscnc_deploy.names import ENSEMBLES
from tscnc_deploy.verify.cases import REPLAY, EvalCase
from tscnc_deploy.verify.plan import Plan
from tscnc_deploy.verify.share import chosen_workers, open_victim, shard_size, shard_store
from tscnc_deploy.verify.stop import Stopping

if TYPE_CHECKING:
    from torch import Tensor

    from tscnc_deploy.robustness import Attack, Evaluation, Victim
    from tscnc_deploy.robustness.sharding.shards import ShardProgress
    from tscnc_deploy.robustness.sharding.workers import Workers

MASKING_IMAGES = 128


@dataclass(frozen=True, eq=False)
class VerifyResult:
    """What a subject stood.

    Attributes:
        subject: With the images that were evaluated, in the order of `evaluation`.
        evaluation: Under the attacks.
        gates: The bounds and what was measured.
        warnings: Signs of gradient masking; None if nobody looked, as for a victim without gradients.
        measures: What else was measured, by name.
        predictions: int64 [N], the class given to each image as it is.
        adversarial_predictions: int64 [N], to each adversarial example.
        stopped: Why the evaluation ended before the last image, and how many there were; None if it did not.
        gradient: Whether attacks had one.
    """

    subject: EvalCase
    evaluation: Evaluation
    gates: list[dict[str, Any]]
    warnings: list[dict[str, Any]] | None
    measures: dict[str, Any]
    predictions: Tensor
    adversarial_predictions: Tensor
    stopped: dict[str, Any] | None
    gradient: bool

    @property
    def passed(self) -> bool:
        """Whether every gate was passed."""
        return all(gate["passed"] for gate in self.gates)

    def to_json(self) -> dict[str, Any]:
        """Every figure, without the outcomes per image."""
        document = {
            **self.evaluation.to_json(),
            "gates": self.gates,
            "passed": self.passed,
            "warnings": self.warnings,
            "gradient": self.gradient,
        }
        optional = {"measures": self.measures, "stopped": self.stopped}
        return document | {key: value for key, value in optional.items() if value}


def verify_case(
    subject: EvalCase, plan: Plan, workers: Workers | None = None, progress: ShardProgress | None = None
) -> VerifyResult:
    """Attacks a subject.

    Args:
        subject: What is attacked, on what.
        plan: How.
        workers: Who evaluates; by default those that the plan names.
        progress: Where to report.

    Raises:
        InputError: Something that would give a wrong number, see `evaluate`.
        UnavailableError: This machine cannot run the subject.
    """
    from tscnc_deploy.devices import deterministic
    from tscnc_deploy.robustness import evaluate_in_shards

    workers = workers or chosen_workers(subject.source, plan)
    victim = open_victim(subject.source, plan.eot, plan.device)
    size = shard_size(len(subject.labels), plan, workers.count)
    stopping = _stopping(len(subject.labels), plan, size, workers.count)
    if plan.may_stop:
        subject = _shuffled(subject, plan.seed)
    names = plan.attacks or subject.attacks
    attacks = _attacks(names, subject.examples)
    _check(victim, subject, attacks, plan)
    with shard_store(subject.source, plan) as store, deterministic(tf32=False):
        evaluation = evaluate_in_shards(
            victim,
            subject.images,
            subject.labels,
            plan.threat,
            attacks,
            shard_size=size,
            store=store,
            identity=f"{subject.source.digest()} {plan.eot}" if store else "",
            workers=workers,
            until=stopping if plan.may_stop else None,
            seed=plan.seed,
            batch_size=plan.batch_size,
            confidence=stopping.confidence,
            # An ensemble is defined as a cascade: its later attacks see what the earlier ones left standing.
            cascade=any(name in ENSEMBLES for name in names),
            progress=progress,
        )
        seen = subject.select(torch.arange(evaluation.clean.total))
        return VerifyResult(
            subject=seen,
            evaluation=evaluation,
            gates=_gates(plan, evaluation, stopping),
            warnings=_warnings(victim, seen, evaluation, plan) if victim.has_gradient and plan.masking else None,
            measures={name: _measure(name, victim, seen, plan, progress) for name in plan.measures},
            predictions=_predict(victim, seen.images, plan.batch_size),
            adversarial_predictions=_predict(victim, evaluation.adversarial, plan.batch_size),
            stopped=_stopped(stopping, evaluation, len(subject.labels)),
            gradient=victim.has_gradient,
        )


def _stopping(total: int, plan: Plan, shard_size: int, workers: int) -> Stopping:
    limits = {what: limit for what, limit in plan.limits.items() if limit > 0}
    if plan.until_decided and not limits:
        msg = "--until-decided: there is no gate to decide; give one, such as --set gates.robust=0.5"
        raise InputError(msg)
    return Stopping(
        total,
        budget=plan.budget,
        limits=limits if plan.until_decided else None,
        first=max(64 // (shard_size * workers), 1) * shard_size * workers,
        round_images=shard_size * workers,
        workers=workers,
    )


def _shuffled(subject: EvalCase, seed: int) -> EvalCase:
    from tscnc_deploy.data import interleaved
    from tscnc_deploy.seeds import derive_generator

    return subject.select(interleaved(subject.labels, derive_generator(seed, "order")))


def _attacks(names: Sequence[str], examples: Tensor | None) -> list[Attack]:
    from tscnc_deploy.robustness import Replay, parse_attacks

    replayed: list[Attack] = []
    if REPLAY in names:
        if examples is None:
            msg = "--attack replay: there are no adversarial examples to replay; only a bundle brings its own"
            raise InputError(msg)
        replayed.append(Replay(examples))
    return [*replayed, *parse_attacks(name for name in names if name != REPLAY)]


def _check(victim: Victim, subject: EvalCase, attacks: Sequence[Attack], plan: Plan) -> None:
    """Refuses what `evaluate` would, in the words of the command line."""
    from tscnc_deploy.robustness.eot import REPEATABLE, randomness

    for attack in attacks:
        if attack.needs_gradient and not victim.has_gradient:
            msg = (
                f"--attack {attack.name} needs gradients, which {subject.source.name} does not give; name the PyTorch "
                "model that it was exported from with --twin, or attack with square-1000 or hopskipjump-2000"
            )
            raise InputError(msg)
    if plan.eot is None and (difference := randomness(victim, subject.images[:16])) > REPEATABLE:
        msg = (
            f"{subject.source.name} answers at random: between two calls on the same images a logit differs by "
            f"{difference:.3g} of the largest; attack the mean of several calls with --eot 32"
        )
        raise InputError(msg)


def _gates(plan: Plan, evaluation: Evaluation, stopping: Stopping) -> list[dict[str, Any]]:
    """Each bound and what was measured; an inconclusive one says how many images would settle it."""
    from tscnc_deploy.robustness import at_least, images_to_settle

    gates = []
    for what, limit in plan.limits.items():
        share, ruling = getattr(evaluation, what), stopping.rulings.get(what)
        if ruling:
            share = replace(share, low=ruling.low, high=ruling.high)
        gate = at_least(f"{what} accuracy, lower end", share, limit)
        more: dict[str, Any] = {"decided_after": ruling.images} if ruling else {}
        if gate.inconclusive:
            more |= {"images_to_settle": images_to_settle(share, limit)}
        gates.append(gate.to_json() | more)
    return gates


def _warnings(victim: Victim, subject: EvalCase, evaluation: Evaluation, plan: Plan) -> list[dict[str, Any]]:
    from tscnc_deploy.data import stratified
    from tscnc_deploy.robustness import check_masking
    from tscnc_deploy.seeds import derive_generator

    count = min(len(subject.labels), MASKING_IMAGES)
    rows = stratified(subject.labels, count, derive_generator(plan.seed, "masking"))
    signs = check_masking(
        victim,
        subject.images[rows],
        subject.labels[rows],
        plan.threat,
        evaluation.select(rows),
        seed=plan.seed,
        batch_size=plan.batch_size,
    )
    return [sign.to_json() for sign in signs]


def _measure(
    name: str, victim: Victim, subject: EvalCase, plan: Plan, progress: ShardProgress | None
) -> dict[str, object]:
    from tscnc_deploy.robustness import measure

    def report(what: str, done: int, total: int) -> None:
        if progress:
            progress(f"{name}: {what}", done, total, None)

    return measure(
        name,
        victim,
        subject.images,
        subject.labels,
        plan.threat,
        seed=plan.seed,
        batch_size=plan.batch_size,
        progress=report,
    )


def _predict(victim: Victim, images: Tensor, batch_size: int) -> Tensor:
    parts = torch.split(images, batch_size)
    return torch.cat([victim.logits(part.to(victim.device)).argmax(1).cpu() for part in parts])


def _stopped(stopping: Stopping, evaluation: Evaluation, total: int) -> dict[str, Any] | None:
    if stopping.reason is None:
        return None
    return {"reason": stopping.reason, "images": evaluation.clean.total, "of": total}
