"""All pruning criteria, by their names in recipes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from tscnc_deploy.training.criteria import saliencies
from tscnc_deploy.training.criteria.base import Masked
from tscnc_deploy.training.criteria.flying_bird import FlyingBird
from tscnc_deploy.training.criteria.gradual import GradualPruning
from tscnc_deploy.training.criteria.harp import Harp
from tscnc_deploy.training.criteria.hydra import Hydra

if TYPE_CHECKING:
    from tscnc_deploy.training.loop import Training

Costs = Mapping[str, float] | None

# Criteria that determine each layer's share themselves ignore costs; the recipe refuses a budget with them.
CRITERIA: Mapping[str, Callable[[Training, Costs], Masked]] = {
    "adversarial-taylor": partial(GradualPruning.of, saliency=saliencies.adversarial_taylor),
    "clean-taylor": partial(GradualPruning.of, saliency=saliencies.clean_taylor),
    "magnitude": partial(GradualPruning.of, saliency=saliencies.magnitude),
    "random": partial(GradualPruning.of, saliency=saliencies.random),
    "hydra": lambda training, _: Hydra.of(training),
    "harp": lambda training, _: Harp.of(training),
    "flying-bird": lambda training, _: FlyingBird.of(training),
}


def pruning(training: Training, costs: Costs = None) -> Masked:
    """Creates the masks for a training's recipe, before the first step.

    Args:
        training: The training.
        costs: Cost of a weight in each layer, for criteria that rank; None ranks by saliency alone.

    Raises:
        InputError: The network cannot meet both the recipe's sparsity and its floor.
    """
    return CRITERIA[training.recipe.prune.criterion](training, costs)
