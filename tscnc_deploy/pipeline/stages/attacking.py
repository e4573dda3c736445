"""Shared by the stages that attack: evaluation cases, resumable shards, entries of the record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tscnc_deploy.pipeline.stages.base import Context
from tscnc_deploy.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from tscnc_deploy.robustness import Attack, CaseResult, EvalCase, Evaluation, Threat, Victim


def threat_of(recipe: Recipe) -> Threat:
    """The threat model of a recipe."""
    from tscnc_deploy.robustness import Threat

    return Threat(norm=recipe.threat.norm, epsilon=recipe.threat.epsilon)


def case_of(recipe: Recipe, victim: Victim, images: Tensor, labels: Tensor, attacks: Sequence[Attack]) -> EvalCase:
    """The evaluation case for the settings of a recipe; the package stage checks the gates.

    Args:
        recipe: Gives the threat model, measures, seed and batch size.
        victim: What is attacked.
        images: float32 [N, C, H, W] in [0, 1].
        labels: int64 [N].
        attacks: The attacks to run.
    """
    from tscnc_deploy.robustness import EvalCase

    return EvalCase(
        victim,
        images,
        labels,
        threat_of(recipe),
        attacks,
        cascade=recipe.verify.cascade,
        seed=recipe.seed,
        batch_size=recipe.verify.batch_size,
        measures=recipe.verify.measures,
    )


def evaluate(context: Context, who: str, case: EvalCase) -> CaseResult:
    """Evaluates a case, reusing the shards that an interrupted run has finished.

    Args:
        context: Context of the stage.
        who: Name of the victim within the stage.
        case: The case to evaluate.
    """
    from tscnc_deploy.robustness import evaluate_case
    from tscnc_deploy.robustness.sharding.work import shards_shown_by

    return evaluate_case(
        case,
        # A multiple of the batch size, so that shards do not make batches smaller.
        shard_size=case.batch_size,
        store=context.work / "shards",
        identity=who,
        progress=shards_shown_by(context.progress, who),
    )


def beyond_attacks(result: CaseResult) -> dict[str, Any]:
    """The entries "warnings", None where nobody looked for signs, and "measures" of the record."""
    warnings = None if result.warnings is None else [sign.to_json() for sign in result.warnings]
    measures = {name: measured.to_json() for name, measured in result.measures.items()}
    return {"warnings": warnings} | ({"measures": measures} if measures else {})


def outcomes_of(who: str, evaluation: Evaluation) -> dict[str, Tensor]:
    """A victim's entries in the outcomes file: "WHO.clean" and "WHO.ATTACK", uint8 [N], 1 where it is correct."""
    import torch

    masks = {"clean": evaluation.correct, **evaluation.robust_by_attack}
    return {f"{who}.{attack}": mask.to(torch.uint8) for attack, mask in masks.items()}
