"""Accuracy over epsilon: what is left standing as the attacker may go further."""

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
    """Worst-case accuracy at rising epsilons; it never rises.

    Attributes:
        norm: Of the perturbations.
        clean: Accuracy on the images as they are, epsilon 0.
        robust: For each epsilon, share of all images that no attack flipped there or at a smaller one.
        masks: For each epsilon bool [N], what `robust` counts.
        settings: What determined each attack, with the seed.
    """

    norm: str
    clean: Accuracy
    robust: dict[float, Accuracy]
    masks: dict[float, Tensor]
    settings: dict[str, Settings]

    @property
    def record(self) -> record.Curve:
        """Every figure and setting, without the outcomes per image."""
        return record.Curve(
            norm=self.norm,
            clean=self.clean,
            curve=tuple(record.CurvePoint(epsilon=epsilon, **dict(share)) for epsilon, share in self.robust.items()),
            settings=self.settings,
        )


@dataclass(frozen=True, eq=False)
class CarriedOver(Replay):
    """The examples of a smaller epsilon, which lie in the larger ball too."""

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
    """Evaluates at one epsilon after the other; an image that fell stays fallen and is attacked no more.

    Images that stand begin the next epsilon with the worst example of the last, as an attacker would.

    Args:
        victim: What is attacked.
        images: float32 [N, C, H, W] in [0, 1].
        labels: int64 [N].
        epsilons: Rising, at least one; each as `Threat` takes it.
        attacks: At least one, of different names.
        norm: Of the perturbations, as `Threat` takes it.
        seed: Of everything random.
        batch_size: Images per forward pass.
        confidence: Of the intervals, in (0, 1).
        progress: Called with epsilon and attack, images done and images to do.

    Raises:
        InputError: Epsilons that do not rise; or see `evaluate`.
    """
    if not epsilons or any(first >= second for first, second in pairwise(epsilons)):
        msg = f"epsilons = {list(epsilons)} are not rising radii, at least one"
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
        # Victims whose rounding depends on the batch may judge an example at the boundary anew; it counts as found.
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
