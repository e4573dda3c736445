"""Settings for attacking artifacts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tscnc_deploy.verify.budget import Budget

if TYPE_CHECKING:
    from tscnc_deploy.record import MaskingWarning
    from tscnc_deploy.robustness import Threat
    from tscnc_deploy.robustness.case import Share


@dataclass(frozen=True)
class Plan:
    """How artifacts are attacked.

    Attributes:
        threat: How far images may be moved.
        limits: Minimum clean and robust accuracy, each in [0, 1); 0 means no limit.
        attacks: Names of attacks and ensembles; empty takes the artifact's.
        seed: Seed of all random numbers.
        batch_size: Images per forward pass.
        device: "cpu", "cuda", or one GPU such as "cuda:1".
        workers: Number of processes; 1 evaluates in this process.
        backend: "loky" or "ray", see `Joblib`.
        budget: Budget for each artifact.
        until_decided: Whether to end as soon as all gates are decided.
        eot: Number of calls whose logits are averaged, for a randomised model; None for a single call.
        masking: Whether to check for signs of gradient masking.
        masking_steps: Steps of APGD in that check.
        signs: Signs of masking that are known beforehand.
        stronger: Whether such signs lead to a stronger attack; half of the budget is reserved for it and the check.
        measures: Names of additional measures, see `MEASURES`.
        batches: Whether to refuse engines whose answer to an image depends on its batch; False if the caller did.
        store: Folder for finished shards; None uses the user's cache until all are finished.
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
    masking_steps: int = 20
    signs: tuple[MaskingWarning, ...] = ()
    stronger: bool = False
    measures: tuple[str, ...] = ()
    batches: bool = True
    store: Path | None = None

    @property
    def may_stop(self) -> bool:
        """Whether the evaluation may end before the last image."""
        return self.until_decided or self.budget is not None
