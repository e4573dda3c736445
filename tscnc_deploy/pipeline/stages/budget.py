"""What a weight that stays costs: the budgets of `prune.budget` for the ranking."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tscnc_deploy.models import Classifier


def weight_costs(model: Classifier, budget: str) -> dict[str, float] | None:
    """The cost of one weight of every layer, for `tscnc.rank_globally`.

    Args:
        model: The network, dense or pruned.
        budget: "macs" counts a weight's multiply-adds per image, "latency" its milliseconds per image in the engine
            sparse-cpu, "parameters" nothing.

    Returns:
        Costs by the name of the layer's weight; None for nothing.
    """
    if budget == "parameters":
        return None
    from tscnc_deploy import models
    from tscnc_deploy.engines.sparse_cpu.latency import milliseconds_per_weight

    maps = models.output_maps(model)
    if budget == "macs":
        return {name: float(height * width) for name, (height, width) in maps.items()}
    return {name: milliseconds_per_weight(height, width) for name, (height, width) in maps.items()}
