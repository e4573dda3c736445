"""Accuracy over epsilon: robust accuracy as the attacker's budget grows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from torch import Tensor

from tscnc_deploy import record
from tscnc_deploy.errors import InputError
from tscnc_deploy.record import Accuracy
from tscnc_deploy.record.parts import Settings
from tscnc_deploy.robustness.attacks.base import Attack
from tscnc_deploy.robustness.attacks.replay import Replay
from tscnc_deploy.robustness.error_context import error_context
from tscnc_deploy.robustness.evaluation import Progress, evaluate
from tscnc_deploy.robustness.settings import recorded_settings
from tscnc_deploy.robustness.statistics.intervals import accuracy
from tscnc_deploy.robustness.threat import Threat
from tscnc_deploy.robustness.victims import Victim


@dataclass(frozen=True, eq=False)
class AccuracyCurve:
    """Worst-case accuracy at increasing epsilons; it never increases.

    Attributes:
        norm: Norm of the perturbations.
        clean: Accuracy on clean images (epsilon 0).
        robust: For each epsilon, share of all images whose label no attack changed at it or at a smaller one.
        masks: For each epsilon bool [N], the images counted by `robust`.
        settings: Settings of each attack, with the seed.
    """

    norm: str
    clean: Accuracy
    robust: dict[float, Accuracy]
    masks: dict[float, Tensor]
    settings: dict[str, Settings]

    @property
    def record(self) -> record.Curve:
        """All figures and settings, without the outcomes per image."""
        return record.Curve(
            norm=self.norm,
            clean=self.clean,
            curve=tuple(record.CurvePoint(epsilon=epsilon, **dict(share)) for epsilon, share in self.robust.items()),
            settings=self.settings,
        )


@dataclass(frozen=True, eq=False)
class CarriedOver(Replay):
    """The examples of a smaller epsilon, which are also in the larger ball."""

    name: ClassVar[str] = "carried-over"


def accuracy_curve(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    epsilons: Sequence[float],
    attacks: Sequence[Attack],
    *,
    norm: str = "Linf",
    seed: int = 0,
    batch_size: int = 256,
    confidence: float = 0.95,
    progress: Progress | None = None,
) -> AccuracyCurve:
    """Evaluates at one epsilon after another; misclassified images count as misclassified from then on.

    For robust images, the next epsilon starts from the worst example of the previous one, as an attacker would.

    Args:
        victim: What is attacked.
        images: float32 [N, C, H, W] in [0, 1].
        labels: int64 [N].
        epsilons: At least one, in increasing order; see `Threat`.
        attacks: At least one, with different names.
        norm: Norm of the perturbations, see `Threat`.
        seed: Seed of all random numbers.
        batch_size: Images per forward pass.
        confidence: Confidence of the intervals, in (0, 1).
        progress: Called with epsilon and attack, images done and images to do.

    Raises:
        InputError: The epsilons are not increasing; or see `evaluate`.
    """
    if not epsilons or any(first >= second for first, second in pairwise(epsilons)):
        msg = f"epsilons = {list(epsilons)} are not one or more increasing radii"
        raise InputError(msg)
    threats = [Threat(norm=norm, epsilon=epsilon) for epsilon in epsilons]
    masks: dict[float, Tensor] = {}
    carried: list[Attack] = []
    for threat in threats:
        with error_context(f"epsilon {threat.epsilon:.4g}"):
            evaluation = evaluate(
                victim,
                images,
                labels,
                threat,
                [*carried, *attacks],
                seed=seed,
                batch_size=batch_size,
                confidence=confidence,
                cascade=True,
                progress=_with_epsilon(progress, threat.epsilon),
            )
        carried = [CarriedOver(evaluation.adversarial)]
        # If the victim's rounding depends on the batch, an example at the boundary may be re-classified; it still
        # counts.
        standing = [*masks.values()][-1] if masks else evaluation.correct
        masks[threat.epsilon] = standing & evaluation.robust_mask
    return AccuracyCurve(
        norm=norm,
        clean=evaluation.clean,
        robust={epsilon: accuracy(int(mask.sum()), len(mask), confidence) for epsilon, mask in masks.items()},
        masks=masks,
        settings={attack.name: recorded_settings(attack, seed=seed) for attack in attacks},
    )


def _with_epsilon(progress: Progress | None, epsilon: float) -> Progress | None:
    if progress is None:
        return None
    return lambda attack, done, total: progress(f"epsilon {epsilon:.4g}, {attack}", done, total)
