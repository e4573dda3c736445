"""Runs an engine on the stored evidence again; every image must have the outcome that it had in the build."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from tscnc_deploy.check.result import CheckResult, pass_or_fail

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.engines import Engine

# Another processor sums in another order, which flips images on the decision boundary.
_MAX_DIFFERING = 0.01


def check_replay(bundle: Bundle, name: str) -> Iterator[CheckResult]:
    """Runs one engine on the evidence images and their stored adversarial examples, and compares it with its twin.

    A check fails if, with 95% confidence, the outcomes differ on more than 1% of images like these.

    Args:
        bundle: The bundle with the evidence.
        name: "twin", or an engine that this machine can run.

    Raises:
        BundleError: The engine is damaged.
        UnavailableError: This machine cannot run it.
    """
    from tscnc_deploy.devices import deterministic
    from tscnc_deploy.robustness import EngineVictim, ModelVictim, batched_logits

    evidence = bundle.evidence
    engine = None if name == "twin" else bundle.engine(name)
    victim = ModelVictim(bundle.twin) if engine is None else EngineVictim(engine, bundle.twin_of(name))
    adversarial = evidence.adversarial.get(name)
    with deterministic(tf32=False):
        clean = batched_logits(victim, torch.from_numpy(evidence.images))
        recorded = {
            key.rpartition(".")[2]: outcome
            for key, outcome in evidence.outcomes.items()
            if key.rpartition(".")[0] == name
        }
        if adversarial is None:
            yield CheckResult(f"{name}: replay", "skipped", "the bundle contains no adversarial examples for it")
            attacked, adversarial = clean, evidence.images
        else:
            attacked = batched_logits(victim, torch.from_numpy(adversarial))
            if recorded:
                robust = np.logical_and.reduce(list(recorded.values()))
                yield _compare_outcomes(
                    f"{name}: replayed examples have the recorded outcomes", attacked, evidence.labels, robust
                )
        if "clean" in recorded:
            yield _compare_outcomes(
                f"{name}: clean images have the recorded outcomes", clean, evidence.labels, recorded["clean"]
            )
        if engine is not None:
            yield _compare_with_twin(bundle, engine, clean, attacked, adversarial)


def _compare_outcomes(
    name: str, logits: torch.Tensor, labels: NDArray[np.int64], recorded: NDArray[np.bool_]
) -> CheckResult:
    from tscnc_deploy.robustness import accuracy

    correct = (logits.argmax(1).numpy() == labels) & torch.isfinite(logits).all(1).numpy()
    differing = accuracy(int((correct != recorded).sum()), len(labels))
    message = (
        f"{differing.correct} of {differing.total} images have another outcome than recorded: {int(correct.sum())} "
        f"are correct now, {int(recorded.sum())} in the record; the build measured another model"
    )
    return pass_or_fail(name, differing.low <= _MAX_DIFFERING, message, differing.low, _MAX_DIFFERING)


def _compare_with_twin(
    bundle: Bundle, engine: Engine, clean: torch.Tensor, attacked: torch.Tensor, adversarial: NDArray[np.float32]
) -> CheckResult:
    from tscnc_deploy.robustness import ModelVictim, batched_logits, compare_logits

    twin = ModelVictim(bundle.twin_of(engine.spec.name))
    limit = _tolerance(bundle, engine.spec.name)
    expected = [batched_logits(twin, torch.from_numpy(images)) for images in (bundle.evidence.images, adversarial)]
    parity = compare_logits(clean, expected[0], attacked, expected[1], limit)
    largest = "infinity" if parity.max_abs_diff is None else f"{parity.max_abs_diff:.3g}"
    message = (
        f"its logits differ from the twin's by up to {largest}, the target allows {limit:g}; "
        f"{len(parity.flips_clean) + len(parity.flips_adversarial)} labels differ: it was not exported from this twin"
    )
    name = f"{engine.spec.name}: largest difference of a logit from the twin"
    return pass_or_fail(name, parity.passed, message, parity.max_abs_diff, limit)


def _tolerance(bundle: Bundle, name: str) -> float:
    """The smaller of the bundle's and the shipped target's, which whoever made the bundle cannot have widened."""
    from tscnc_deploy.engines.target import list_targets

    shipped = {target.name: target.tolerance for target in list_targets()}
    own = bundle.target(name).tolerance
    return min(own, shipped.get(name, own))
