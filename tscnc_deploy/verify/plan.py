"""How artifacts are attacked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tscnc_deploy.verify.budget import Budget

if TYPE_CHECKING:
    from tscnc_deploy.robustness import Threat
    from tscnc_deploy.robustness.case import Share


@dataclass(frozen=True)
class Plan:
    """How artifacts are attacked.

    Attributes:
        threat: How far images may be moved.
        limits: Least clean and robust accuracy, each in [0, 1); 0 is no bound.
        attacks: Names of attacks and ensembles; empty takes the artifact's.
        seed: Of everything random.
        batch_size: Images per forward pass.
        device: "cpu", "cuda", or one GPU such as "cuda:1".
        workers: Number of processes; 1 evaluates in this one.
        backend: "loky" or "ray", see `Joblib`.
        budget: What each artifact may cost.
        until_decided: Whether to end as soon as every gate is decided.
        eot: Calls whose logits are averaged, for a model that answers at random; None for one call.
        masking: Whether to look for signs of gradient masking.
        stronger: Whether such signs lead to a stronger attack; it and the search have a half of the budget.
        measures: What to measure besides, see `MEASURES`.
        store: Folder for finished shards; None takes one of the user's cache until all are finished.
    """

    threat: Threat
    limits: Mapping[Share, float]
    attacks: tuple[str, ...] = ()
    seed: int = 0
    batch_size: int = 256
    device: str = "cpu"
    workers: int = 1
    backend: str = "loky"
    budget: Budget | None = None
    until_decided: bool = False
    eot: int | None = None
    masking: bool = True
    stronger: bool = False
    measures: tuple[str, ...] = ()
    store: Path | None = None

    @property
    def may_stop(self) -> bool:
        """Whether the evaluation may end before the last image."""
        return self.until_decided or self.budget is not None
