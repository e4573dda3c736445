"""Attacks an artifact according to a plan."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tscnc_deploy.data import interleaved
from tscnc_deploy.errors import InputError
from tscnc_deploy.names import ENSEMBLES
from tscnc_deploy.robustness import (
    Attack,
    CaseResult,
    EvalCase,
    Evaluation,
    Reference,
    Replay,
    Victim,
    evaluate_case,
    parse_attacks,
)
from tscnc_deploy.robustness.batches import takes_single_images
from tscnc_deploy.robustness.eot import REPEATABLE, randomness
from tscnc_deploy.robustness.sharding.work import ShardProgress
from tscnc_deploy.robustness.sharding.workers import Workers
from tscnc_deploy.seeds import derive_generator
from tscnc_deploy.verify.artifact import REPLAY, Artifact
from tscnc_deploy.verify.plan import Plan
from tscnc_deploy.verify.share import Opening, chosen_workers, shard_size, shard_store, store_identity
from tscnc_deploy.verify.stop import Stopping

# Share of the budget that is reserved if signs of masking lead to a stronger attack.
_RESERVE = 0.5
# Share of the time that may go to the question whether answers depend on the batch.
_BATCHES = 0.1


@dataclass(frozen=True, eq=False)
class VerifyResult:
    """The results for an artifact.

    Attributes:
        artifact: The artifact with the images that were evaluated, in the order of the evaluation.
        measured: The figures.
    """

    artifact: Artifact
    measured: CaseResult

    @property
    def evaluation(self) -> Evaluation:
        """The evaluation under the attacks."""
        return self.measured.evaluation

    @property
    def gradient(self) -> bool:
        """Whether attacks had gradients."""
        return self.measured.case.victim.has_gradient

    @property
    def passed(self) -> bool:
        """Whether every gate was passed."""
        return self.measured.passed

    def to_json(self) -> dict[str, Any]:
        """All figures, without the outcomes per image; "single_images" if the engine is given one at a time."""
        warnings = self.measured.warnings
        document = {
            **self.evaluation.record.to_json(),
            "gates": self.measured.gates,
            "passed": self.passed,
            "warnings": None if warnings is None else [sign.to_json() for sign in warnings],
            "gradient": self.gradient,
        }
        measures = {name: measured.to_json() for name, measured in self.measured.measures.items()}
        optional = {
            "measures": measures,
            "stopped": self.measured.stopped,
            "single_images": takes_single_images(self.measured.case.victim),
        }
        return document | {key: value for key, value in optional.items() if value}


def verify_artifact(
    artifact: Artifact,
    plan: Plan,
    workers: Workers | None = None,
    progress: ShardProgress | None = None,
    *,
    reference: Reference | None = None,
    surrogate: Victim | None = None,
) -> VerifyResult:
    """Attacks an artifact.

    Args:
        artifact: The artifact, with its images.
        plan: The settings.
        workers: The workers that evaluate; by default those of the plan.
        progress: Receives the progress.
        reference: A classifier to compare with, on the same images in the order of this plan.
        surrogate: Another model, whose adversarial examples are tried in the check for signs of masking.

    Raises:
        InputError: The input would give a wrong result, see `evaluate`.
        UnavailableError: This machine cannot run the artifact.
    """
    workers = workers or chosen_workers(artifact.source, plan)
    victim = Opening(artifact.source, plan.eot)(plan.device)
    size = shard_size(len(artifact.labels), plan, workers.count)
    stopping = _stopping(len(artifact.labels), plan, size, workers.count)
    if plan.may_stop:
        artifact = _shuffled(artifact, plan.seed)
    names = plan.attacks or artifact.attacks
    case = EvalCase(
        victim,
        artifact.images,
        artifact.labels,
        plan.threat,
        _attacks(names, artifact.examples),
        gates=plan.limits,
        # An ensemble is defined as a cascade: later attacks run only on images that are robust to the earlier ones.
        cascade=any(name in ENSEMBLES for name in names),
        seed=plan.seed,
        batch_size=plan.batch_size,
        masking=plan.masking,
        masking_steps=plan.masking_steps,
        signs=plan.signs,
        stronger=plan.stronger,
        surrogate=surrogate,
        measures=plan.measures,
        reference=reference,
        batches=plan.batches,
        batch_seconds=_BATCHES * plan.budget.seconds if plan.budget and plan.budget.seconds else math.inf,
    )
    _check(case, artifact.source.name, plan)
    with shard_store(artifact.source, plan, leads=workers.leads) as store:
        result = evaluate_case(
            case,
            shard_size=size,
            store=store,
            identity=store_identity(artifact.source, plan.eot) if store else "",
            workers=workers,
            stop=stopping if plan.may_stop else None,
            progress=progress,
        )
    return VerifyResult(artifact.select(torch.arange(len(result.case.labels))), result)


def _stopping(total: int, plan: Plan, shard_size: int, workers: int) -> Stopping:
    limits = {what: limit for what, limit in plan.limits.items() if limit > 0}
    if plan.until_decided and not limits:
        msg = "--until-decided: no gate to decide; set one, such as --set gates.robust=0.5"
        raise InputError(msg)
    return Stopping(
        total,
        budget=plan.budget,
        limits=limits if plan.until_decided else None,
        first=max(64 // (shard_size * workers), 1) * shard_size * workers,
        round_images=shard_size * workers,
        workers=workers,
        reserve=_RESERVE if plan.masking and plan.stronger else 0.0,
    )


def _shuffled(artifact: Artifact, seed: int) -> Artifact:
    return artifact.select(interleaved(artifact.labels, derive_generator(seed, "order")))


def _attacks(names: Sequence[str], examples: Tensor | None) -> list[Attack]:
    replayed: list[Attack] = []
    if REPLAY in names:
        if examples is None:
            msg = "--attack replay: no adversarial examples to replay; only bundles contain them"
            raise InputError(msg)
        replayed.append(Replay(examples))
    return [*replayed, *parse_attacks(name for name in names if name != REPLAY)]


def _check(case: EvalCase, name: str, plan: Plan) -> None:
    """Refuses what `evaluate` would refuse, with messages for the command line."""
    for attack in case.attacks:
        if attack.needs_gradient and not case.victim.has_gradient:
            msg = (
                f"--attack {attack.name} needs gradients, but {name} has none; give the PyTorch "
                "model that it was exported from with --twin, or use square-1000 or hopskipjump-2000"
            )
            raise InputError(msg)
    # One image if there is a budget, which more of a slow model could exceed; `evaluate` looks again at each shard.
    few = case.images[: 1 if plan.budget else 16]
    if plan.eot is None and (difference := randomness(case.victim, few)) > REPEATABLE:
        msg = (
            f"{name} is randomised: its logits differ between two calls on the same images, by "
            f"{difference:.3g} of the largest one; attack the mean of several calls with --eot 32"
        )
        raise InputError(msg)
