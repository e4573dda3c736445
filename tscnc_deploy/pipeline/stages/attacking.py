"""What the stages that attack share: shards that survive a kill, signs of gradient masking, further measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tscnc_deploy.pipeline.stages.base import BOUNDS, Context
from tscnc_deploy.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from tscnc_deploy.robustness import Attack, Evaluation, Threat, Victim

# Signs of masking show on few images, and the search for them costs about as much as a strong attack.
MASKING_IMAGES = 256


def threat_of(recipe: Recipe) -> Threat:
    """The threat model of a recipe."""
    from tscnc_deploy.robustness import Threat

    return Threat(norm=recipe.threat.norm, epsilon=recipe.threat.epsilon)


def evaluate_victim(
    context: Context, who: str, victim: Victim, images: Tensor, labels: Tensor, attacks: Sequence[Attack]
) -> Evaluation:
    """Evaluates one victim; what a killed stage had finished is not repeated.

    Args:
        context: Of the stage.
        who: Names the victim within the stage.
        victim: What is attacked.
        images: float32 [N, C, H, W] in [0, 1].
        labels: int64 [N].
        attacks: What it faces.
    """
    from tscnc_deploy.robustness import evaluate_in_shards

    verify = context.recipe.verify
    return evaluate_in_shards(
        victim,
        images,
        labels,
        threat_of(context.recipe),
        attacks,
        # A multiple of the batch, so that shards do not make batches smaller.
        shard_size=verify.batch_size,
        store=context.work / "shards",
        identity=who,
        seed=context.recipe.seed,
        batch_size=verify.batch_size,
        cascade=verify.cascade,
        progress=shard_progress(context, who),
    )


def shard_progress(context: Context, who: str) -> Callable[[str, int, int, Evaluation | None], None]:
    """Shows work done, the attack in progress and the bounds that the finished shards give."""

    def show(attack: str, done: int, total: int, known: Evaluation | None) -> None:
        bounds = dict(zip(BOUNDS, (known.robust.low, known.robust.high), strict=True)) if known else {}
        context.progress.step(done, total, bounds, who, attack)

    return show


def beyond_attacks(
    context: Context,
    who: str,
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    evaluation: Evaluation,
    surrogate: Victim | None = None,
) -> dict[str, Any]:
    """Signs that the evaluation overstates robustness, and what the recipe wants measured besides.

    Args:
        context: Of the stage.
        who: Names the victim within the stage.
        victim: What was evaluated.
        images: float32 [N, C, H, W] in [0, 1].
        labels: int64 [N].
        evaluation: Of these images.
        surrogate: Another model, whose adversarial examples are tried on the victim.

    Returns:
        The entries "warnings" and "measures" of the record.
    """
    import torch

    from tscnc_deploy.data.sampling import stratified
    from tscnc_deploy.robustness import check_masking, measure
    from tscnc_deploy.seeds import derive_generator

    recipe, threat = context.recipe, threat_of(context.recipe)
    rows = torch.arange(len(labels))
    if len(labels) > MASKING_IMAGES:
        rows = stratified(labels.cpu(), MASKING_IMAGES, derive_generator(recipe.seed, "masking"))
    context.progress.step(0, 1, {}, f"{who}: signs of gradient masking")
    signs = check_masking(
        victim,
        images[rows],
        labels[rows],
        threat,
        evaluation.select(rows),
        surrogate=surrogate,
        seed=recipe.seed,
        batch_size=recipe.verify.batch_size,
    )
    measures = {
        name: measure(
            name,
            victim,
            images,
            labels,
            threat,
            seed=recipe.seed,
            batch_size=recipe.verify.batch_size,
            progress=lambda what, done, total, name=name: context.progress.step(  # type: ignore[misc]
                done, total, {}, f"{who}: {name}", what
            ),
        )
        for name in recipe.verify.measures
    }
    return {"warnings": [sign.to_json() for sign in signs]} | ({"measures": measures} if measures else {})
