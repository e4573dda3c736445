"""Keys of [model], [constrain] and [prune] that leave others nothing to say: setting both is refused, not ignored."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from tscnc_deploy.text import any_of

if TYPE_CHECKING:
    from tscnc_deploy.recipe import Model
    from tscnc_deploy.recipe.training import Constrain, Prune

_LEARNED = {
    "budget": "which finds every layer's share by itself",
    "pattern": "which removes single weights wherever they are",
    "updates": "whose masks follow the scores after every step",
    "regrow": "whose removed weights may always come back",
}
_MOVED = {
    "budget": "which leaves every layer the share that magnitudes give it",
    "pattern": "which moves single weights wherever they are",
    "regrow": "which lives by weights that come back",
    "score_lr": "which learns no scores",
}
_RANKED = {"score_lr": "which learns no scores"}
# Keys that whole filters leave one value.
_WHOLE = {
    "budget": ("parameters", "as they are ranked by their weights alone"),
    "regrow": (False, "as the batch norm of a removed filter has no statistics left to judge its return by"),
}
# What has no meaning for a transformer, and what else to write.
_OF_CONVOLUTIONS = {
    ("pattern", "filters"): ("removes filters of convolutions, of which it has one", ("unstructured", "2:4")),
    ("budget", "latency"): ("counts time in the engine sparse-cpu, which does not run it", ("parameters", "macs")),
}
_SETTLED: Mapping[str, Mapping[str, str]] = {"hydra": _LEARNED, "harp": _LEARNED, "flying-bird": _MOVED}


def of_constrain(constrain: Constrain) -> Iterator[str]:
    """A lambda that sets itself beside one that is set, or without a constraint."""
    share = constrain.gradient_share
    if share is None:
        return
    if constrain.weight != type(constrain).model_fields["weight"].default:
        yield (
            f"constrain.gradient_share = {share:g} sets lambda and so does constrain.lambda = {constrain.weight:g}; "
            "leave out one of them"
        )
    if constrain.constraint == "none":
        yield (
            f'constrain.gradient_share = {share:g} needs a constraint and constrain.constraint = "none"; '
            'write "tscnc", "kaporin" or "log-frobenius"'
        )


def of_prune(prune: Prune) -> Iterator[str]:
    """Keys with another value than the one that the criterion or the pattern leaves them."""
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


def of_transformer(model: Model, prune: Prune) -> Iterator[str]:
    """Ways to prune that only convolutional networks know."""
    if model.arch != "vit-tiny":
        return
    for (key, value), (reason, others) in _OF_CONVOLUTIONS.items():
        if getattr(prune, key) == value:
            yield (
                f'prune.{key} = "{value}" does not apply to model.arch = "{model.arch}": it {reason}; '
                f"write {any_of(map(json.dumps, others))}"
            )
