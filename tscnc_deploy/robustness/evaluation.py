"""Evaluation: clean accuracy, accuracy under each attack, and the worst case per image."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from tscnc_deploy import record
from tscnc_deploy.errors import InputError
from tscnc_deploy.record import Accuracy
from tscnc_deploy.record.parts import Settings
from tscnc_deploy.robustness import checks
from tscnc_deploy.robustness.attacks.base import Attack, Best, calls
from tscnc_deploy.robustness.eot import check_repeatable
from tscnc_deploy.robustness.error_context import error_context
from tscnc_deploy.robustness.folding import folded
from tscnc_deploy.robustness.losses import is_misclassified, margin
from tscnc_deploy.robustness.noise import Noise
from tscnc_deploy.robustness.settings import recorded_settings
from tscnc_deploy.robustness.statistics.intervals import accuracy, check_confidence
from tscnc_deploy.robustness.threat import Threat
from tscnc_deploy.robustness.victims import Victim, watched

Progress = Callable[[str, int, int], None]

# Number of images for detecting a randomised victim.
_ASKED_TWICE = 16


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The robustness of a victim: the figures, as in the record, and the outcomes for each image.

    Tensors are on the CPU, in the order of the images. Created by `Evaluation.of`.

    Attributes:
        record: All figures and settings; its accuracies are also attributes of this class.
        threat: How far images were moved.
        correct: bool [N], correctly classified clean images.
        robust_by_attack: For each attack bool [N], the images counted by `attacks`.
        robust_mask: bool [N], the images counted by `robust`.
        adversarial: float32 [N, C, H, W], for each image the example of highest margin loss over all attacks, a
            misclassified one if there is any; the clean image if it is misclassified or nothing was worse.
        seconds: For each attack and for "clean".
    """

    record: record.Evaluation
    threat: Threat
    correct: Tensor
    robust_by_attack: dict[str, Tensor]
    robust_mask: Tensor
    adversarial: Tensor
    seconds: dict[str, float]

    @classmethod
    def of(
        cls,
        threat: Threat,
        correct: Tensor,
        robust_by_attack: dict[str, Tensor],
        adversarial: Tensor,
        *,
        settings: Mapping[str, Settings],
        cascade: bool,
        seconds: dict[str, float],
        queries: Mapping[str, int],
        confidence: float = 0.95,
    ) -> Evaluation:
        """Counts the images that are robust to each attack and to all attacks.

        Args:
            threat: How far images were moved.
            correct: bool [N], see the attributes, on the CPU like all tensors.
            robust_by_attack: For each attack bool [N].
            adversarial: float32 [N, C, H, W].
            settings: Settings of each attack.
            cascade: Whether each attack ran only on images that were robust to the earlier ones.
            seconds: For each attack and for "clean".
            queries: Number of images that the victim classified, likewise.
            confidence: Confidence of the intervals, in (0, 1).

        Raises:
            InputError: The confidence is out of range.
        """
        robust_mask = correct
        for mask in robust_by_attack.values():
            robust_mask = robust_mask & mask
        figures = record.Evaluation(
            clean=_count(correct, confidence),
            robust=_count(robust_mask, confidence),
            attacks={name: _count(mask, confidence) for name, mask in robust_by_attack.items()},
            settings=dict(settings),
            cascade=cascade,
            epsilon=threat.epsilon,
            norm=threat.norm,
            queries=dict(queries),
        )
        return cls(figures, threat, correct, robust_by_attack, robust_mask, adversarial, seconds)

    @property
    def clean(self) -> Accuracy:
        """Accuracy on clean images."""
        return cast(Accuracy, self.record.clean)

    @property
    def robust(self) -> Accuracy:
        """Share of all images whose label no attack changed."""
        return cast(Accuracy, self.record.robust)

    @property
    def attacks(self) -> dict[str, Accuracy]:
        """Share of all images that are robust to each attack; in a cascade, to it and all earlier ones."""
        return self.record.attacks

    @property
    def settings(self) -> dict[str, Settings]:
        """Settings of each attack, with the seed."""
        return self.record.settings

    @property
    def cascade(self) -> bool:
        """Whether each attack ran only on images that were robust to the earlier ones."""
        return self.record.cascade

    @property
    def queries(self) -> dict[str, int]:
        """Number of images that the victim classified, for each attack and for "clean"."""
        return cast(dict[str, int], self.record.queries)

    def select(self, rows: Tensor, confidence: float = 0.95) -> Evaluation:
        """The evaluation of some images, given an int64 index; settings, seconds and queries are those of all."""
        return Evaluation.of(
            self.threat,
            self.correct[rows],
            {name: mask[rows] for name, mask in self.robust_by_attack.items()},
            self.adversarial[rows],
            settings=self.settings,
            cascade=self.cascade,
            seconds=self.seconds,
            queries=self.queries,
            confidence=confidence,
        )


# Gradients cannot be computed inside a caller's inference mode.
@torch.inference_mode(mode=False)
def evaluate(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    attacks: Sequence[Attack],
    *,
    seed: int = 0,
    batch_size: int = 256,
    confidence: float = 0.95,
    cascade: bool = False,
    progress: Progress | None = None,
    first: int = 0,
) -> Evaluation:
    """Attacks every correctly classified image and counts those that stay correct.

    The victim's own prediction for the point that an attack returns decides, not what the attack reports. An attack's
    random numbers depend on the image (its index in `images`), the attack's name and the seed, not on batches. Logits
    and gradients may depend on batches through rounding: libraries sum in another order for other tensor shapes, which
    can change the last digits of a point and decide an image on a decision boundary.

    Args:
        victim: What is attacked.
        images: float32 [N, C, H, W] in [0, 1], on any device.
        labels: int64 [N], each less than the number of classes.
        threat: How far images may be moved.
        attacks: At least one, with different names; run in this order.
        seed: Seed of all random numbers.
        batch_size: Images per forward pass.
        confidence: Confidence of the Clopper-Pearson intervals, in (0, 1).
        cascade: Run each attack only on images that are robust to the earlier ones. This is cheaper; the worst case
            per image is the same, but the accuracy under each single attack is not measured.
        progress: Called with the attack's name (or "clean"), images done and images to do: after every batch, and with
            an estimate while a batch is attacked, since an attack may take an hour for it.
        first: Index of the first image in the whole set, if these images are a part of it; determines the random
            numbers and replayed examples of each image.

    Raises:
        InputError: Images, labels, attacks, logits or settings would give a wrong result, or the victim is randomised
            and not an `EOTVictim`.
    """
    checks.check_images(images, labels)
    checks.check_attacks(attacks, victim)
    if batch_size < 1:
        msg = f"batch_size = {batch_size} is not a positive number of images"
        raise InputError(msg)
    check_confidence(confidence, above=0)
    settings = {attack.name: recorded_settings(attack, seed=seed) for attack in attacks}
    images, labels = images.detach().cpu(), labels.cpu()
    check_repeatable(victim, images[: min(batch_size, _ASKED_TWICE)])
    checks.check_twin(victim, images[: min(batch_size, _ASKED_TWICE)])
    report = progress or _silent
    # Attacks run on a faster copy of the network; the victim itself judges the points that they find.
    attacked = folded(victim, images[: min(batch_size, _ASKED_TWICE)].to(victim.device))

    started = time.perf_counter()
    before = victim.queries
    clean = _clean(victim, images, labels, batch_size, report)
    seconds = {"clean": time.perf_counter() - started}
    queries = {"clean": victim.queries - before}
    correct = robust_mask = ~clean.misclassified
    worst, robust_by_attack = clean, {}
    for attack in attacks:
        started, before = time.perf_counter(), _asked(victim, attacked)
        survives = (robust_mask if cascade else correct).clone()
        rows = survives.nonzero().squeeze(1)
        for done in range(0, len(rows), batch_size):
            batch = rows[done : done + batch_size]
            noise = Noise(seed, (batch + first).to(victim.device), attack.name)
            within = _within(attacked, attack, report, done, len(batch), len(rows))
            with error_context(f"{attack.name}, after {done} of {len(rows)} images"), watched(attacked, within):
                found = _attack(victim, attacked, images[batch], labels[batch], threat, attack, noise)
            worst.put(batch, found)
            survives[batch] = ~found.misclassified
            report(attack.name, done + len(batch), len(rows))
        robust_by_attack[attack.name] = survives
        robust_mask = robust_mask & survives
        seconds[attack.name] = time.perf_counter() - started
        queries[attack.name] = _asked(victim, attacked) - before

    return Evaluation.of(
        threat,
        correct,
        robust_by_attack,
        worst.points,
        settings=settings,
        cascade=cascade,
        seconds=seconds,
        queries=queries,
        confidence=confidence,
    )


def _within(attacked: Victim, attack: Attack, report: Progress, done: int, size: int, total: int) -> Callable[[], None]:
    """Reports, whenever the victim is asked, how much of an attack on a batch is done by the number of queries."""
    before, expected, shown = attacked.queries, calls(attack) * size, 0

    def watcher() -> None:
        nonlocal shown
        # Attacks may take more queries than expected, but the batch is not done before they return.
        images = min(size * (attacked.queries - before) // expected, size - 1)
        if images > shown:
            shown = images
            report(attack.name, done + images, total)

    return watcher


def _clean(victim: Victim, images: Tensor, labels: Tensor, batch_size: int, report: Progress) -> Best:
    parts = []
    for done in range(0, len(images), batch_size):
        batch = images[done : done + batch_size]
        with error_context(f"clean, after {done} of {len(images)} images"):
            parts.append(victim.logits(batch.to(victim.device)).cpu())
        report("clean", done + len(batch), len(images))
    logits = torch.cat(parts)
    checks.check_logits(logits, labels)
    return Best(images.clone(), margin(logits, labels), is_misclassified(logits, labels))


def _asked(victim: Victim, attacked: Victim) -> int:
    return victim.queries + (0 if attacked is victim else attacked.queries)


def _attack(
    victim: Victim, attacked: Victim, images: Tensor, labels: Tensor, threat: Threat, attack: Attack, noise: Noise
) -> Best:
    """The points that an attack found, clipped to the ball and judged by the victim itself; on the CPU."""
    found = attack.run(attacked, images.to(victim.device), labels.to(victim.device), threat, noise).cpu()
    points = threat.project(found, images)
    logits = victim.logits(points.to(victim.device)).cpu()
    checks.check_finite(logits)
    return Best(points, margin(logits, labels), is_misclassified(logits, labels))


def _count(robust: Tensor, confidence: float) -> Accuracy:
    return accuracy(int(robust.sum()), len(robust), confidence)


def _silent(_name: str, _done: int, _total: int) -> None:
    """Ignores the progress."""
