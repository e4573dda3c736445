"""The section of a recipe that configures pruning.

A key that has no effect together with another one is refused, not ignored.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from tscnc_deploy.names import Criterion
from tscnc_deploy.recipe.section import Section, without
from tscnc_deploy.recipe.values import Count, Share

_LEARNED = {
    "budget": "which finds every layer's share by itself",
    "pattern": "which removes individual weights anywhere",
    "updates": "which updates its masks after every step",
    "regrow": "whose removed weights can always come back",
}
_MOVED = {
    "budget": "which determines every layer's share by magnitudes",
    "pattern": "which moves individual weights anywhere",
    "regrow": "which depends on weights that come back",
    "score_lr": "which learns no scores",
}
_RANKED = {"score_lr": "which learns no scores"}
# The only values of these keys that the pattern "filters" allows.
_WHOLE = {
    "budget": ("parameters", "as filters are ranked by their weights alone"),
    "regrow": (False, "as the batch norm of a removed filter has no statistics to estimate its saliency"),
}
_SETTLED: Mapping[str, Mapping[str, str]] = {"hydra": _LEARNED, "harp": _LEARNED, "flying-bird": _MOVED}


class Prune(Section):
    """The sparse constraint: which weights become zero, and when."""

    sparsity: Share = Field(0.95, description="share of zeros among all conv and linear weights, met exactly")
    criterion: Criterion = Field(
        "adversarial-taylor",
        description="saliency that weights are ranked by (adversarial-taylor is TSCNC's), masks learned as scores "
        "beside frozen weights (hydra, harp), or moved by prune-and-regrow (flying-bird)",
    )
    pattern: Literal["unstructured", "2:4", "filters"] = Field(
        "unstructured",
        description="where zeros may be; 2:4 is along input channels, for sparse tensor cores; filters removes whole "
        "filters of convolutions, with at least the sparsity, and needs regrow = false",
    )
    budget: Literal["parameters", "macs", "latency"] = Field(
        "parameters",
        description="what else is reduced to the share of weights that remain: nothing (parameters), the MACs (macs), "
        "or the time per image in the engine sparse-cpu, by its cost model (latency)",
    )
    floor: Share = Field(0.01, description="minimum share of its weights that every layer keeps")
    epochs: Count = Field(10, description="epochs during which the sparsity rises")
    lr: PositiveFloat = Field(0.01, description="learning rate while pruning, constant")
    score_lr: PositiveFloat = Field(0.1, description="hydra and harp: peak learning rate of the scores, for SGD")
    updates: Count = Field(10, description="number of mask updates, on the cubic schedule if weights are ranked")
    saliency_batches: Count = Field(10, description="batches that a Taylor saliency is averaged over at each update")
    regrow: bool = Field(True, description="masked weights continue to learn and can come back until the last update")

    @model_validator(mode="after")
    def _settings_agree(self) -> Self:
        return without(_of_prune(self), self)


def _of_prune(prune: Prune) -> Iterator[str]:
    """Keys with a value that the criterion or the pattern does not allow."""
    for key, reason in _SETTLED.get(prune.criterion, _RANKED).items():
        value, default = getattr(prune, key), type(prune).model_fields[key].default
        if value != default:
            yield (
                f"prune.{key} = {json.dumps(value)} does not apply to prune.criterion = {json.dumps(prune.criterion)}, "
                f"{reason}; write prune.{key} = {json.dumps(default)}"
            )
    if prune.pattern == "filters" and prune.criterion not in _SETTLED:
        for key, (only, reason) in _WHOLE.items():
            if getattr(prune, key) != only:
                yield (
                    f'prune.pattern = "filters" needs prune.{key} = {json.dumps(only)}, {reason}; '
                    f"write prune.{key} = {json.dumps(only)}"
                )
