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
from tscnc_deploy.robustness.attacks.base import Attack, Best
from tscnc_deploy.robustness.eot import check_repeatable
from tscnc_deploy.robustness.error_context import error_context
from tscnc_deploy.robustness.folding import folded
from tscnc_deploy.robustness.losses import is_misclassified, margin
from tscnc_deploy.robustness.noise import Noise
from tscnc_deploy.robustness.settings import recorded_settings
from tscnc_deploy.robustness.statistics.intervals import accuracy, check_confidence
from tscnc_deploy.robustness.threat import Threat
from tscnc_deploy.robustness.victims import Victim

Progress = Callable[[str, int, int], None]

# Images on which a randomised victim gives itself away.
_ASKED_TWICE = 16


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How robust a victim is: the figures, which a record takes, and what they count, image by image.

    Tensors are on the CPU, in the order of the images. Made by `Evaluation.of`.

    Attributes:
        record: Every figure and setting; its accuracies are also attributes of this.
        threat: How far images were moved.
        correct: bool [N], classified correctly as they are.
        robust_by_attack: Per attack bool [N], what `attacks` counts.
        robust_mask: bool [N], what `robust` counts.
        adversarial: float32 [N, C, H, W], per image the example of highest margin loss over all attacks, a
            misclassified one where there is any; the clean image where that is misclassified or nothing was worse.
        seconds: Per attack, and for "clean".
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
        """Counts what each attack left robust, and what all of them did.

        Args:
            threat: How far images were moved.
            correct: bool [N], see the attributes, on the CPU like all tensors.
            robust_by_attack: Per attack bool [N].
            adversarial: float32 [N, C, H, W].
            settings: What determined each attack.
            cascade: Whether attacks only saw the images that earlier ones had left robust.
            seconds: Per attack, and for "clean".
            queries: Images that the victim answered for, likewise.
            confidence: Of the intervals, in (0, 1).

        Raises:
            InputError: Confidence out of range.
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
        """Accuracy on the images as they are."""
        return cast(Accuracy, self.record.clean)

    @property
    def robust(self) -> Accuracy:
        """Share of all images that no attack flipped."""
        return cast(Accuracy, self.record.robust)

    @property
    def attacks(self) -> dict[str, Accuracy]:
        """Share of all images that each attack left robust; with cascade, that it and all before it did."""
        return self.record.attacks

    @property
    def settings(self) -> dict[str, Settings]:
        """What determined each attack, with the seed."""
        return self.record.settings

    @property
    def cascade(self) -> bool:
        """Whether attacks only saw the images that earlier ones had left robust."""
        return self.record.cascade

    @property
    def queries(self) -> dict[str, int]:
        """Images that the victim answered for, per attack and for "clean"."""
        return cast(dict[str, int], self.record.queries)

    def select(self, rows: Tensor, confidence: float = 0.95) -> Evaluation:
        """The evaluation of some of the images, an int64 index; settings, seconds and queries are those of all."""
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


# Inside somebody's inference mode no gradient could be taken.
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
    """Attacks every image that is classified correctly and counts what stays so.

    What the victim says about the point that an attack returns decides, not what the attack says. An attack's random
    numbers belong to the image (its place in `images`), the attack's name and the seed: batches do not change them.
    Logits and gradients may, by rounding: libraries add up in another order where a tensor has another shape, which can
    move a point in its last digits and decide an image that lies on a boundary.

    Args:
        victim: What is attacked.
        images: float32 [N, C, H, W] in [0, 1], on any device.
        labels: int64 [N], each below the number of classes.
        threat: How far images may be moved.
        attacks: At least one, of different names; run in this order.
        seed: Of everything random.
        batch_size: Images per forward pass.
        confidence: Of the Clopper-Pearson intervals, in (0, 1).
        cascade: Attack only what earlier attacks left robust. Cheaper; the worst case per image is the same, the
            accuracy under a single attack is not measured.
        progress: Called with the attack's name (or "clean"), images done and images to do, after every batch.
        first: Place of the first image in the whole set, where these images are a part of it: random numbers and
            replayed examples are then those that the image has in the whole.

    Raises:
        InputError: Images, labels, attacks, logits or settings that would give a wrong number, and a victim that
            answers differently each time, unless it is an `EOTVictim`.
    """
    checks.check_images(images, labels)
    checks.check_attacks(attacks, victim)
    if batch_size < 1:
        msg = f"batch_size = {batch_size} is not a number of images from 1 up"
        raise InputError(msg)
    check_confidence(confidence, above=0)
    settings = {attack.name: recorded_settings(attack, seed=seed) for attack in attacks}
    images, labels = images.detach().cpu(), labels.cpu()
    check_repeatable(victim, images[: min(batch_size, _ASKED_TWICE)])
    checks.check_twin(victim, images[: min(batch_size, _ASKED_TWICE)])
    report = progress or _silent
    # What the attacks find on a network with less to compute is judged by the victim itself.
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
            with error_context(f"{attack.name}, after {done} of {len(rows)} images"):
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
    """The points that an attack found, clipped into the ball and judged by the victim itself; on the CPU."""
    found = attack.run(attacked, images.to(victim.device), labels.to(victim.device), threat, noise).cpu()
    points = threat.project(found, images)
    logits = victim.logits(points.to(victim.device)).cpu()
    checks.check_finite(logits)
    return Best(points, margin(logits, labels), is_misclassified(logits, labels))


def _count(robust: Tensor, confidence: float) -> Accuracy:
    return accuracy(int(robust.sum()), len(robust), confidence)


def _silent(_name: str, _done: int, _total: int) -> None:
    """Progress that nobody asked for."""
