"""Runs engines on the stored evidence again, and compares them with the record and with their twin.

Every image must have the outcome that it had in the build, and an engine must answer like its twin: on the evidence,
and on random, corrupted and interpolated images that no bundle contains.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tscnc_deploy.bundle.manifest import TWIN
from tscnc_deploy.check.elsewhere import DRAWN, images_elsewhere
from tscnc_deploy.check.result import CheckResult, pass_or_fail
from tscnc_deploy.check.targets import allowed_flips, checkers_target

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.check.images import Shown
    from tscnc_deploy.check.policy import Policy
    from tscnc_deploy.engines.target import Target
    from tscnc_deploy.robustness import Victim

# Another processor sums in another order, which flips images on the decision boundary.
_MAX_DIFFERING = 0.01
# No engine can have this name.
_CLEAN = "clean images"


class Replay:
    """Replays the evidence of a bundle on its twin and its engines.

    Args:
        bundle: The bundle with the evidence.
        policy: Names the targets, see `checkers_target`.
        shown: The images of the fresh attack; if they were drawn, engines are compared with their twin on them too.
        seed: Seed of the images that are not in the evidence.

    Attributes:
        scoreless: Names of the engines so far whose answers give no score, see `robustness.scores`.
    """

    def __init__(self, bundle: Bundle, policy: Policy, shown: Shown, seed: int = 0) -> None:
        self._bundle = bundle
        self._policy = policy
        self._drawn = shown.images if shown.drawn else None
        self._seed = seed
        self._twins: dict[str, _Twin] = {}
        self.scoreless: set[str] = set()

    def check(self, name: str) -> Iterator[CheckResult]:
        """Runs one engine, or the twin, on the evidence images and their stored adversarial examples.

        A comparison with the record fails if, with 95% confidence, the outcomes differ on more than 1% of images like
        these; a comparison of labels with the twin's, if they differ on more than the target allows.

        Args:
            name: "twin", or an engine that this machine can run.

        Raises:
            BundleError: The engine is damaged.
            UnavailableError: This machine cannot run it.
        """
        from tscnc_deploy.devices import deterministic
        from tscnc_deploy.robustness import BlackBoxVictim, batched_logits

        sets = self._sets(name)
        with deterministic(tf32=False):
            if name == "twin":
                twin = self._twin("")
                logits = {which: twin.logits(which, images) for which, images in sets.items()}
                yield from self._compare_with_record(name, logits)
                return
            victim = BlackBoxVictim(self._bundle.engine(name))
            logits = {which: batched_logits(victim, images) for which, images in sets.items()}
            yield from self._compare_with_record(name, logits)
            target = checkers_target(self._policy, self._bundle.target(name))
            twin = self._twin(name)
            expected = {which: twin.logits(which, images) for which, images in sets.items()}
            yield _compare_logits(name, logits, expected, target)
            yield _compare_labels(f"{name}: labels agree with the twin's", logits, expected, allowed_flips(target))
            elsewhere = {which: batched_logits(victim, images) for which, images in self._elsewhere.items()}
            yield self._compare_elsewhere(name, elsewhere, twin, target, expected[_CLEAN])
            yield self._check_scores(name, sets, logits, elsewhere)

    @cached_property
    def _elsewhere(self) -> dict[str, Tensor]:
        return images_elsewhere(self._bundle, self._seed, self._drawn)

    def _sets(self, name: str) -> dict[str, Tensor]:
        """The clean images and the adversarial examples of the engine and of the twin, where there are any."""
        evidence = self._bundle.evidence
        sets = {_CLEAN: torch.from_numpy(evidence.images)}
        for which in dict.fromkeys((name, "twin")):
            if which in evidence.adversarial:
                sets[which] = torch.from_numpy(evidence.adversarial[which])
        return sets

    def _twin(self, engine: str) -> _Twin:
        """The twin of an engine; that of the bundle for "" and for engines without their own."""
        from tscnc_deploy.robustness import ModelVictim

        path = self._bundle.twin_path(engine) if engine else TWIN
        if path not in self._twins:
            self._twins[path] = _Twin(ModelVictim(self._bundle.twin if path == TWIN else self._bundle.twin_of(engine)))
        return self._twins[path]

    def _compare_with_record(self, name: str, logits: Mapping[str, Tensor]) -> Iterator[CheckResult]:
        evidence = self._bundle.evidence
        recorded = {
            key.rpartition(".")[2]: outcome
            for key, outcome in evidence.outcomes.items()
            if key.rpartition(".")[0] == name
        }
        if name not in logits:
            yield CheckResult(f"{name}: replay", "skipped", "the bundle contains no adversarial examples for it")
        elif recorded:
            robust = np.logical_and.reduce(list(recorded.values()))
            title = f"{name}: replayed examples have the recorded outcomes"
            yield _compare_outcomes(title, logits[name], evidence.labels, robust)
        if "clean" in recorded:
            title = f"{name}: clean images have the recorded outcomes"
            yield _compare_outcomes(title, logits[_CLEAN], evidence.labels, recorded["clean"])

    def _compare_elsewhere(
        self, name: str, answers: Mapping[str, Tensor], twin: _Twin, target: Target, on_evidence: Tensor
    ) -> CheckResult:
        """Compares labels and, for float32 engines, logits on images that are not in the evidence.

        An engine in few bits is calibrated on images like those of the evidence, and cuts off the larger values that
        random images lead to.
        """
        left_out = "random" if target.precision == "int8" else None
        logits = {which: each for which, each in answers.items() if which != left_out}
        expected = {which: twin.logits(f"elsewhere/{which}", self._elsewhere[which]) for which in logits}
        title = f"{name}: answers on other images agree with the twin's"
        labels = _compare_labels(title, logits, expected, allowed_flips(target))
        if labels.outcome != "passed" or target.precision != "fp32":
            return labels
        for which in logits:
            largest = float((logits[which] - expected[which]).abs().max())
            # Rounding errors grow with the logits.
            limit = _limit(target, on_evidence)
            limit *= max(1.0, float(expected[which].abs().max() / on_evidence.abs().max()))
            if not largest <= limit:
                message = f"on {which} images its logits differ from the twin's by up to {largest:.3g}"
                return CheckResult(title, "failed", message, largest, limit)
        return labels

    def _check_scores(
        self, name: str, sets: Mapping[str, Tensor], logits: Mapping[str, Tensor], elsewhere: Mapping[str, Tensor]
    ) -> CheckResult:
        """Judged on the evidence and on drawn images; the other images join an evidence that is too small."""
        from tscnc_deploy.robustness.scores import LABEL_ONLY, LEAST_IMAGES, different_images, missing_score

        title = f"{name}: answers give a score"
        known = torch.cat(list(logits.values()))[different_images(torch.cat(list(sets.values())))]
        parts = (known, elsewhere.get(DRAWN, known[:0]))
        judged = [each for each in parts if len(each) >= LEAST_IMAGES]
        if not judged:
            known = torch.cat([known, *elsewhere.values()])
            judged = [known] if len(known) >= LEAST_IMAGES else []
        problem = next((found for each in judged if (found := missing_score(each)) is not None), None)
        if problem is not None:
            self.scoreless.add(name)
            message = f"{problem}; searches that need a score find nothing, so it is also attacked by {LABEL_ONLY[0]}"
            return CheckResult(title, "failed", message)
        if not judged:
            self.scoreless.add(name)
            message = (
                f"{len(known)} different images are too few to tell, {LEAST_IMAGES} are needed; --dataset NAME "
                f"--data-root DIR draws images; it is also attacked by {LABEL_ONLY[0]}"
            )
            return CheckResult(title, "not checked", message)
        return CheckResult(title, "passed")


class _Twin:
    """A twin, whose answers on each set of images are computed once."""

    def __init__(self, victim: Victim) -> None:
        self._victim = victim
        self._logits: dict[str, Tensor] = {}

    def logits(self, which: str, images: Tensor) -> Tensor:
        from tscnc_deploy.robustness import batched_logits

        if which not in self._logits:
            self._logits[which] = batched_logits(self._victim, images)
        return self._logits[which]


def _compare_outcomes(name: str, logits: Tensor, labels: NDArray[np.int64], recorded: NDArray[np.bool_]) -> CheckResult:
    from tscnc_deploy.robustness import accuracy

    correct = (logits.argmax(1).numpy() == labels) & torch.isfinite(logits).all(1).numpy()
    differing = accuracy(int((correct != recorded).sum()), len(labels))
    message = (
        f"{differing.correct} of {differing.total} images have another outcome than recorded: {int(correct.sum())} "
        f"are correct now, {int(recorded.sum())} in the record; the build measured another model"
    )
    return pass_or_fail(name, differing.low <= _MAX_DIFFERING, message, differing.low, _MAX_DIFFERING)


def _compare_logits(
    name: str, logits: Mapping[str, Tensor], expected: Mapping[str, Tensor], target: Target
) -> CheckResult:
    """The largest difference, on clean images and on the engine's own examples as in the build."""
    from tscnc_deploy.robustness import compare_logits

    own = name if name in logits else _CLEAN
    limit = _limit(target, expected[_CLEAN])
    parity = compare_logits(logits[_CLEAN], expected[_CLEAN], logits[own], expected[own], limit)
    largest = "infinity" if parity.max_abs_diff is None else f"{parity.max_abs_diff:.3g}"
    message = (
        f"its logits differ from the twin's by up to {largest}, the target {target.name} allows {limit:.3g}; "
        f"{len(parity.flips_clean) + len(parity.flips_adversarial)} labels differ: it was not exported from this twin"
    )
    title = f"{name}: largest difference of a logit from the twin"
    return pass_or_fail(title, parity.passed, message, parity.max_abs_diff, limit)


def _limit(target: Target, logits: Tensor) -> float:
    """Largest difference of a logit, given the twin's on clean images.

    Tolerances are for logits of usual size. A network whose logits were made tiny must agree as closely for its size.
    """
    return target.tolerance * min(1.0, float(logits.abs().max()))


def _compare_labels(
    title: str, logits: Mapping[str, Tensor], expected: Mapping[str, Tensor], limit: float
) -> CheckResult:
    from tscnc_deploy.robustness import accuracy

    flips = {which: int((logits[which].argmax(1) != expected[which].argmax(1)).sum()) for which in logits}
    share = accuracy(sum(flips.values()), sum(len(each) for each in logits.values()))
    where = ", ".join(f"{count} on {which}" for which, count in flips.items() if count)
    message = f"{share.correct} of {share.total} labels differ from the twin's ({where}), {limit:.0%} may"
    return pass_or_fail(title, share.low <= limit, message, share.low, limit)
