"""Accuracy under common corruptions: those of CIFAR-10-C, at its five severities.

Fourteen of the fifteen are implemented, with their published names; "frost" is not, because it needs photographs of
ice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from tscnc_deploy import record
from tscnc_deploy.errors import InputError
from tscnc_deploy.record import Accuracy
from tscnc_deploy.robustness import checks
from tscnc_deploy.robustness.classifier import Classifier, classify, classify_clean
from tscnc_deploy.robustness.error_context import error_context
from tscnc_deploy.robustness.evaluation import Progress
from tscnc_deploy.robustness.losses import is_misclassified
from tscnc_deploy.robustness.measures import distortions
from tscnc_deploy.robustness.noise import Noise
from tscnc_deploy.robustness.statistics.intervals import accuracy, check_confidence, hoeffding_interval

SEVERITIES = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Corruption:
    """A distortion of images, and its severities.

    Attributes:
        distort: Maps images, their randomness and the parameters of a severity to images; see `distortions`.
        severities: The parameters of each severity from 1 to 5, for images of 32 pixels.
    """

    distort: Callable[..., Tensor]
    severities: tuple[tuple[float, ...], ...]


def _one(*values: float) -> tuple[tuple[float, ...], ...]:
    """The severities of a corruption with a single parameter."""
    return tuple((value,) for value in values)


CORRUPTIONS = {
    "gaussian_noise": Corruption(distortions.gaussian_noise, _one(0.04, 0.06, 0.08, 0.09, 0.10)),
    "shot_noise": Corruption(distortions.shot_noise, _one(500, 250, 100, 75, 50)),
    "impulse_noise": Corruption(distortions.impulse_noise, _one(0.01, 0.02, 0.03, 0.05, 0.07)),
    "defocus_blur": Corruption(distortions.defocus_blur, ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))),
    "glass_blur": Corruption(
        distortions.glass_blur, ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))
    ),
    "motion_blur": Corruption(distortions.motion_blur, ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))),
    # As in numpy.arange(1, 1.06, 0.01) etc.: the ends are 1.06, 1.11, 1.16, 1.21 and 1.26, and rounding includes the
    # first two of them.
    "zoom_blur": Corruption(distortions.zoom_blur, _one(1.06, 1.11, 1.15, 1.2, 1.25)),
    "snow": Corruption(
        distortions.snow,
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
    ),
    "fog": Corruption(distortions.fog, ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))),
    "brightness": Corruption(distortions.brightness, _one(0.05, 0.1, 0.15, 0.2, 0.3)),
    "contrast": Corruption(distortions.contrast, _one(0.75, 0.5, 0.4, 0.3, 0.15)),
    "elastic_transform": Corruption(
        distortions.elastic_transform,
        ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
    ),
    "pixelate": Corruption(distortions.pixelate, _one(0.95, 0.9, 0.85, 0.75, 0.65)),
    "jpeg_compression": Corruption(distortions.jpeg_compression, _one(80, 65, 58, 50, 40)),
}


@dataclass(frozen=True, eq=False)
class CorruptionResult:
    """The accuracy of a classifier under corruptions.

    Attributes:
        clean: Accuracy on clean images.
        accuracies: Accuracy for each corruption and severity.
        mean: Mean over all corruptions and severities.
        mean_interval: Interval of the mean; Hoeffding's, because the outcomes of one image are not independent.
        outcomes: For each corruption and severity, bool [N], whether each image is classified correctly.
        seed: Seed of all random numbers.
    """

    clean: Accuracy
    accuracies: dict[str, dict[int, Accuracy]]
    mean: float
    mean_interval: tuple[float, float]
    outcomes: dict[str, dict[int, Tensor]]
    seed: int

    @property
    def record(self) -> record.Corruptions:
        """All figures, without the outcomes per image."""
        low, high = self.mean_interval
        return record.Corruptions(
            clean=self.clean,
            mean=record.Mean(accuracy=self.mean, total=self.clean.total, low=low, high=high),
            corruptions={
                name: tuple(record.Severity(severity=severity, **dict(share)) for severity, share in shares.items())
                for name, shares in self.accuracies.items()
            },
            seed=self.seed,
        )


def corrupt(images: Tensor, name: str, severity: int, *, seed: int = 0, indices: Tensor | None = None) -> Tensor:
    """Corrupts images, float32 in [0, 1]; the random numbers of an image are the same at all severities.

    Args:
        images: float32 [N, C, H, W] in [0, 1] with 1 or 3 channels, on any device.
        name: One of `CORRUPTIONS`.
        severity: From 1 to 5.
        seed: Seed of all random numbers.
        indices: int64 [N], index of each image in the whole set, which determines its random numbers; by default
            0 to N - 1.

    Raises:
        InputError: Unknown corruption or severity, or unsuitable images.
    """
    checks.check_pixels(images)
    _check_request(name, severity, images)
    if indices is None:
        indices = torch.arange(len(images))
    noise = Noise(seed, indices.to(images.device), f"corruption/{name}")
    corruption = CORRUPTIONS[name]
    return corruption.distort(images, noise, *corruption.severities[severity - 1]).clamp(0, 1)


def evaluate_corruptions(
    classifier: Classifier,
    images: Tensor,
    labels: Tensor,
    corruptions: Sequence[str] = tuple(CORRUPTIONS),
    severities: Sequence[int] = SEVERITIES,
    *,
    seed: int = 0,
    batch_size: int = 256,
    confidence: float = 0.95,
    progress: Progress | None = None,
) -> CorruptionResult:
    """Classifies every image under every corruption at every severity.

    Args:
        classifier: Maps images to logits: a model, a function, or a victim's `logits`, so also an engine.
        images: float32 [N, C, H, W] in [0, 1] with 1 or 3 channels, on the classifier's device.
        labels: int64 [N].
        corruptions: Names from `CORRUPTIONS`, at least one, each once.
        severities: Each from 1 to 5, at least one, each once.
        seed: Seed of all random numbers.
        batch_size: Images per call of the classifier; does not change the corrupted images.
        confidence: Confidence of the intervals, in (0, 1).
        progress: Called with the corruption, batches done and batches to do.

    Raises:
        InputError: Images, labels, logits or settings would give a wrong result.
    """
    for what, chosen in (("corruptions", corruptions), ("severities", severities)):
        if not chosen or len(set(chosen)) < len(chosen):
            msg = f"{what} = {list(chosen)}: give at least one, and each once"
            raise InputError(msg)
    check_confidence(confidence, above=0)
    checks.check_images(images, labels)
    for name, severity in product(corruptions, severities):
        _check_request(name, severity, images)
    logits = classify_clean(classifier, images, labels, batch_size)
    clean, classes = ~is_misclassified(logits, labels.cpu()), logits.shape[1]
    batches = torch.split(torch.arange(len(images)), batch_size)
    steps = len(batches) * len(severities)
    outcomes: dict[str, dict[int, Tensor]] = {}
    for name in corruptions:
        outcomes[name] = {}
        for place, severity in enumerate(severities):
            parts = []
            for done, batch in enumerate(batches, start=1 + place * len(batches)):
                corrupted = corrupt(images[batch], name, severity, seed=seed, indices=batch)
                with error_context(f"{name} of severity {severity}, after {batch[0]} of {len(images)} images"):
                    logits = classify(classifier, corrupted, classes)
                parts.append(~is_misclassified(logits, labels[batch].cpu()))
                if progress:
                    progress(name, done, steps)
            outcomes[name][severity] = torch.cat(parts)
    everything = torch.stack([outcome for shares in outcomes.values() for outcome in shares.values()])
    mean = everything.double().mean().item()
    return CorruptionResult(
        clean=_count(clean, confidence),
        accuracies={
            name: {severity: _count(outcome, confidence) for severity, outcome in by_severity.items()}
            for name, by_severity in outcomes.items()
        },
        mean=mean,
        mean_interval=hoeffding_interval(mean, len(images), confidence),
        outcomes=outcomes,
        seed=seed,
    )


def _check_request(name: str, severity: int, images: Tensor) -> None:
    if name not in CORRUPTIONS:
        msg = f"unknown corruption {name!r}; the corruptions are {', '.join(CORRUPTIONS)}"
        raise InputError(msg)
    if severity not in SEVERITIES:
        msg = f"severity {severity!r} of {name} is not 1, 2, 3, 4 or 5"
        raise InputError(msg)
    if images.shape[1] not in (1, 3):
        msg = f"images with {images.shape[1]} channels cannot be corrupted; 1 (grey) or 3 (RGB) are needed"
        raise InputError(msg)


def _count(outcomes: Tensor, confidence: float) -> Accuracy:
    return accuracy(int(outcomes.sum()), len(outcomes), confidence)
