"""The smallest epsilon at which each image has an adversarial example; an upper bound, given by the examples found."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tscnc_deploy import record
from tscnc_deploy.errors import InputError
from tscnc_deploy.record import Accuracy
from tscnc_deploy.record.parts import Settings
from tscnc_deploy.robustness import checks
from tscnc_deploy.robustness.attacks.base import Attack, per_image
from tscnc_deploy.robustness.classifier import classify, classify_clean
from tscnc_deploy.robustness.error_context import error_context
from tscnc_deploy.robustness.evaluation import Progress
from tscnc_deploy.robustness.losses import is_misclassified
from tscnc_deploy.robustness.noise import Noise
from tscnc_deploy.robustness.settings import recorded_settings
from tscnc_deploy.robustness.statistics.intervals import accuracy, check_confidence
from tscnc_deploy.robustness.statistics.quantiles import quantiles
from tscnc_deploy.robustness.threat import Threat
from tscnc_deploy.robustness.victims import Victim

WALK_HALVINGS = 12


@dataclass(frozen=True, eq=False)
class SmallestEpsilonsResult:
    """Upper bounds of how far each image has to be moved to be misclassified.

    Attributes:
        epsilons: float64 [N], length of the shortest adversarial perturbation that was found; 0 if the clean image is
            misclassified, infinite if none was found.
        adversarial: float32 [N, C, H, W], the example of that length; the image itself if there is none.
        largest: Largest epsilon of the search.
        norm: Norm of the perturbations.
        settings: Settings of the attack, with its name, the halvings and the seed.
        confidence: Confidence of the intervals.
    """

    epsilons: Tensor
    adversarial: Tensor
    largest: float
    norm: str
    settings: Settings
    confidence: float

    def robust_at(self, epsilon: float) -> Accuracy:
        """Share of images without a known example up to this epsilon, for epsilons up to `largest`."""
        return accuracy(int((self.epsilons > epsilon).sum()), len(self.epsilons), self.confidence)

    @property
    def record(self) -> record.SmallestEpsilons:
        """Counts, the quantiles with their intervals, and all settings."""
        return record.SmallestEpsilons(
            norm=self.norm,
            largest=self.largest,
            total=len(self.epsilons),
            misclassified=int((self.epsilons == 0).sum()),
            robust=self.robust_at(self.largest),
            quantiles=tuple(quantiles(self.epsilons, confidence=self.confidence)),
            settings=self.settings,
        )


# Gradients cannot be computed inside a caller's inference mode.
@torch.inference_mode(mode=False)
def smallest_epsilons(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    attack: Attack,
    largest: float,
    *,
    norm: str = "Linf",
    halvings: int = 7,
    seed: int = 0,
    batch_size: int = 256,
    confidence: float = 0.95,
    progress: Progress | None = None,
) -> SmallestEpsilonsResult:
    """Bisects the epsilon of each image with an attack, then moves its last example back towards the image.

    The attack runs at `largest` on every image, then `halvings` more times on those it succeeded on, each time at the
    middle of the image's interval; images with equal epsilon share a batch. The last step only uses logits.

    Args:
        victim: What is attacked.
        images: float32 [N, C, H, W] in [0, 1].
        labels: int64 [N].
        attack: Decides whether an epsilon is too small; a weak attack may be wrong.
        largest: Where the search starts, see `Threat`.
        norm: Norm of the perturbations, see `Threat`.
        halvings: At least 0; the bisection ends at an interval of largest / 2**halvings.
        seed: Seed of the attack.
        batch_size: Images per forward pass.
        confidence: Confidence of the intervals, in (0, 1).
        progress: Called with the attack's name, runs on an image done, and the maximum number of runs.

    Raises:
        InputError: Images, labels, logits or settings would give a wrong result.
    """
    checks.check_attacks([attack], victim)
    if halvings < 0:
        msg = f"halvings = {halvings} is negative or not an integer"
        raise InputError(msg)
    check_confidence(confidence, above=0)
    threat = Threat(norm=norm, epsilon=largest)
    images, labels = images.detach().cpu(), labels.cpu()
    logits = classify_clean(lambda batch: victim.logits(batch.to(victim.device)), images, labels, batch_size)
    correct = ~is_misclassified(logits, labels)
    rows = correct.nonzero().squeeze(1)

    # In steps of largest / 2**halvings: where the image was robust, and where it was misclassified.
    steps = 2**halvings
    robust_at = torch.zeros(len(images), dtype=torch.int64)
    misclassified_at = torch.full_like(robust_at, steps)
    adversarial = images.clone()
    misclassified = ~correct
    done, most = 0, len(rows) * (1 + halvings)
    for halving in range(1 + halvings):
        tried = misclassified_at if halving == 0 else (robust_at + misclassified_at) // 2
        for step, batch in _of_equal(tried, rows, batch_size):
            ball = Threat(norm=norm, epsilon=largest * step / steps)
            with error_context(f"{attack.name} at epsilon {ball.epsilon:.4g}, after {done} of {most} runs"):
                points = _run(victim, images[batch], labels[batch], ball, attack, Noise(seed, batch, attack.name))
                found = _broken(victim, points, labels[batch])
            adversarial[batch[found]] = points[found]
            misclassified_at[batch[found]], robust_at[batch[~found]] = step, step
            misclassified[batch] |= found
            done += len(batch)
            if progress:
                progress(attack.name, done, most)
        rows = rows[misclassified[rows]]

    for batch in torch.split(rows, batch_size):
        with error_context("moving examples back to their images"):
            adversarial[batch] = _walk_back(victim, images[batch], adversarial[batch], labels[batch])
    lengths = threat.length(adversarial.double() - images.double())
    return SmallestEpsilonsResult(
        epsilons=torch.where(misclassified, lengths, math.inf),
        adversarial=adversarial,
        largest=largest,
        norm=norm,
        settings={"attack": attack.name, **recorded_settings(attack, halvings=halvings, seed=seed)},
        confidence=confidence,
    )


def _of_equal(tried: Tensor, rows: Tensor, batch_size: int) -> Iterator[tuple[int, Tensor]]:
    """Batches of rows for which the same step is tried, each with its step."""
    for step in sorted(set(tried[rows].tolist())):
        for batch in torch.split(rows[tried[rows] == step], batch_size):
            yield step, batch


def _run(victim: Victim, images: Tensor, labels: Tensor, threat: Threat, attack: Attack, noise: Noise) -> Tensor:
    """The points found by the attack, clipped to the ball; on the CPU."""
    noise = Noise(noise.seed, noise.indices.to(victim.device), noise.stream)
    found = attack.run(victim, images.to(victim.device), labels.to(victim.device), threat, noise)
    return threat.project(found.cpu(), images)


def _broken(victim: Victim, points: Tensor, labels: Tensor) -> Tensor:
    return is_misclassified(classify(victim.logits, points.to(victim.device)), labels)


def _walk_back(victim: Victim, images: Tensor, adversarial: Tensor, labels: Tensor) -> Tensor:
    """The nearest misclassified point visited when bisecting the line from the image to its example."""
    low, high = torch.zeros(len(images)), torch.ones(len(images))
    nearest = adversarial
    for _ in range(WALK_HALVINGS):
        share = (low + high) / 2
        points = torch.lerp(images, adversarial, per_image(share))
        found = _broken(victim, points, labels)
        nearest = torch.where(per_image(found), points, nearest)
        low, high = torch.where(found, low, share), torch.where(found, share, high)
    return nearest
