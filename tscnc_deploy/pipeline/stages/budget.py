"""The cost of keeping a weight: the budgets of `prune.budget` for the ranking."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tscnc_deploy.models import Classifier


def weight_costs(model: Classifier, budget: str) -> dict[str, float] | None:
    """The cost of one weight in each layer, for `tscnc.rank_globally`.

    Args:
        model: The network, dense or pruned.
        budget: "macs" counts a weight's MACs per image, "latency" its milliseconds per image in the sparse-cpu engine;
            "parameters" has no costs.

    Returns:
        Costs by the name of the layer's weight; None if there are none.
    """
    if budget == "parameters":
        return None
    from tscnc_deploy import models
    from tscnc_deploy.engines.sparse_cpu.latency import milliseconds_per_weight

    maps = models.output_maps(model)
    if budget == "macs":
        return {name: float(height * width) for name, (height, width) in maps.items()}
    return {name: milliseconds_per_weight(height, width) for name, (height, width) in maps.items()}
