"""Which keys of [prune] each criterion leaves no choice in: setting one of them is refused, not ignored."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tscnc_deploy.recipe import Prune

_LEARNED = {
    "pattern": "which removes single weights wherever they are",
    "updates": "whose masks follow the scores after every step",
    "regrow": "whose removed weights may always come back",
}
_MOVED = {
    "pattern": "which moves single weights wherever they are",
    "regrow": "which lives by weights that come back",
    "score_lr": "which learns no scores",
}
_RANKED = {"score_lr": "which learns no scores"}
_SETTLED: Mapping[str, Mapping[str, str]] = {"hydra": _LEARNED, "harp": _LEARNED, "flying-bird": _MOVED}


def inapplicable(prune: Prune) -> Iterator[str]:
    """What is wrong with keys that have another value than their default and no meaning to the criterion."""
    for key, reason in _SETTLED.get(prune.criterion, _RANKED).items():
        value, default = getattr(prune, key), type(prune).model_fields[key].default
        if value != default:
            yield (
                f"prune.{key} = {json.dumps(value)} does not apply to prune.criterion = {json.dumps(prune.criterion)}, "
                f"{reason}; write prune.{key} = {json.dumps(default)}"
            )
