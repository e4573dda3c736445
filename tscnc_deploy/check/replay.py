"""The stored evidence, run again: each image must end as it did in the build."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from tscnc_deploy.check.result import CheckResult, holds

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.engines import Engine
    from tscnc_deploy.robustness import Victim

# Another processor sums in another order, which moves images that stand on the edge of a class.
_EDGE = 0.01
_BATCH = 256


def check_replay(bundle: Bundle, name: str) -> Iterator[CheckResult]:
    """Runs one engine on the evidence images and their stored adversarial examples, beside its twin.

    An outcome may differ on as many images as a true share of 1% explains at 95%.

    Args:
        bundle: Holds the evidence.
        name: "twin", or an engine that this machine runs.

    Raises:
        BundleError: The engine is damaged.
        UnavailableError: This machine cannot run it.
    """
    from tscnc_deploy.devices import deterministic
    from tscnc_deploy.robustness import EngineVictim, ModelVictim

    evidence = bundle.evidence
    engine = None if name == "twin" else bundle.engine(name)
    victim = ModelVictim(bundle.twin) if engine is None else EngineVictim(engine, bundle.twin_of(name))
    adversarial = evidence.adversarial.get(name)
    with deterministic(tf32=False):
        clean = _logits(victim, evidence.images)
        recorded = {
            key.rpartition(".")[2]: outcome
            for key, outcome in evidence.outcomes.items()
            if key.rpartition(".")[0] == name
        }
        if adversarial is None:
            yield CheckResult(f"{name}: replay", "skipped", "the bundle holds no adversarial examples of it")
            attacked, adversarial = clean, evidence.images
        else:
            attacked = _logits(victim, adversarial)
            if recorded:
                stood = np.logical_and.reduce(list(recorded.values()))
                yield _same(f"{name}: replayed examples end as recorded", attacked, evidence.labels, stood)
        if "clean" in recorded:
            yield _same(f"{name}: clean images end as recorded", clean, evidence.labels, recorded["clean"])
        if engine is not None:
            yield _as_twin(bundle, engine, clean, attacked, adversarial)


def _logits(victim: Victim, images: NDArray[np.float32]) -> torch.Tensor:
    parts = torch.split(torch.from_numpy(images), _BATCH)
    return torch.cat([victim.logits(part) for part in parts])


def _same(name: str, logits: torch.Tensor, labels: NDArray[np.int64], recorded: NDArray[np.bool_]) -> CheckResult:
    from tscnc_deploy.robustness import accuracy

    right = (logits.argmax(1).numpy() == labels) & torch.isfinite(logits).all(1).numpy()
    differing = accuracy(int((right != recorded).sum()), len(labels))
    said = (
        f"{differing.correct} of {differing.total} images end otherwise than recorded: {int(right.sum())} are right, "
        f"{int(recorded.sum())} were; this is not what was measured in the build"
    )
    return holds(name, differing.low <= _EDGE, said, differing.low, _EDGE)


def _as_twin(
    bundle: Bundle, engine: Engine, clean: torch.Tensor, attacked: torch.Tensor, adversarial: NDArray[np.float32]
) -> CheckResult:
    from tscnc_deploy.robustness import ModelVictim, compare_logits

    twin = ModelVictim(bundle.twin_of(engine.spec.name))
    limit = _tolerance(bundle, engine.spec.name)
    parity = compare_logits(clean, _logits(twin, bundle.evidence.images), attacked, _logits(twin, adversarial), limit)
    said = (
        f"its logits differ from the twin's by up to {parity.max_abs_diff:.3g}, the target allows {limit:g}; "
        f"{len(parity.flips_clean) + len(parity.flips_adversarial)} labels differ: it was not exported from this twin"
    )
    name = f"{engine.spec.name}: largest difference of a logit from the twin"
    return holds(name, parity.passed, said, parity.max_abs_diff, limit)


def _tolerance(bundle: Bundle, name: str) -> float:
    """That of the shipped target of this name, which the bundle's maker cannot have widened; else the bundle's."""
    from tscnc_deploy.engines.target import list_targets

    shipped = {target.name: target.tolerance for target in list_targets()}
    own = bundle.target(name).tolerance
    return min(own, shipped.get(name, own))
