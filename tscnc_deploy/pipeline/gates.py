"""The gates of a build: each limit of the recipe with the figure that it bounds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tscnc_deploy.recipe import Recipe

if TYPE_CHECKING:
    from tscnc_deploy.record import Gate


def holds_the_twins_weights(counted: Mapping[str, Any]) -> bool:
    """Whether an engine's file has the twin's weights unchanged: neither rounded to fewer bits nor completed."""
    return counted["precision"] == "fp32" and "completion" not in counted


def build_gates(
    recipe: Recipe,
    structure: Mapping[str, Mapping[str, Any]],
    verified: Mapping[str, Any],
    engines: Mapping[str, Mapping[str, Any]],
    layers: Sequence[Mapping[str, Any]],
) -> list[Gate]:
    """All gates of a recipe, for all measured figures; `check` computes them again from a bundle's record.

    Args:
        recipe: The recipe, with its limits.
        structure: For each target the "prunable" and "nonzero" weights and the "precision" of its file, and
            "completion" if it was completed to 2:4.
        verified: The "twin" as in the record, and the "comparison" of the twin with the dense network.
        engines: The engines as in the record; those with a key "unavailable" were not measured.
        layers: The layers as in the record.
    """
    from tscnc_deploy.record import Accuracy, Comparison, Gate
    from tscnc_deploy.robustness import at_least, at_most, loses_at_most

    limits = recipe.gates
    gates = []
    for name, counted in structure.items():
        zeros = counted["prunable"] - counted["nonzero"]
        wanted = round(recipe.prune.sparsity * counted["prunable"])
        # Rounding to fewer bits and completing to 2:4 may add zeros but never remove them. Whole filters may not add up
        # to exactly the requested number.
        exact = holds_the_twins_weights(counted) and recipe.prune.pattern != "filters"
        right = zeros == wanted if exact else zeros >= wanted
        gates.append(Gate(name=f"{name}: zeros counted in the file", value=zeros, limit=wanted, passed=right))
    measured = {"twin": verified["twin"]} | {name: e for name, e in engines.items() if "unavailable" not in e}
    for name, evaluation in measured.items():
        for what, limit in (("clean", limits.clean), ("robust", limits.robust)):
            share = Accuracy.model_validate(evaluation[what])
            gates.append(at_least(f"{name}: {what} accuracy, lower end", share, limit))
        if name == "twin":
            continue
        parity = evaluation["parity"]
        largest = float("inf") if parity["max_abs_diff"] is None else parity["max_abs_diff"]
        gates.append(at_most(f"{name}: largest difference of a logit", largest, parity["tolerance"]))
        if limits.engine_loss is not None:
            beside = Comparison.model_validate(evaluation["comparison"])
            gates.append(
                loses_at_most(f"{name}: robust accuracy lost to the twin, upper bound", beside, limits.engine_loss)
            )
    if limits.pruning_loss is not None:
        pruned = Comparison.model_validate(verified["comparison"])
        gates.append(loses_at_most("robust accuracy lost by pruning, upper bound", pruned, limits.pruning_loss))
    if limits.median_kappa is not None:
        kappas = [layer["kappa"] for layer in layers if layer["kappa"] is not None]
        gates.append(at_most("median kappa of the layers", statistics.median(kappas), limits.median_kappa))
    return gates
