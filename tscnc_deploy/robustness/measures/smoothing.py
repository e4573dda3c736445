"""Randomised smoothing: L2 certificates for any classifier, including engines, from predictions on noisy images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from scipy.stats import norm
from torch import Tensor

from tscnc_deploy import record
from tscnc_deploy.errors import InputError
from tscnc_deploy.record import Accuracy
from tscnc_deploy.robustness.classifier import Classifier, classify, classify_clean
from tscnc_deploy.robustness.error_context import error_context
from tscnc_deploy.robustness.evaluation import Progress
from tscnc_deploy.robustness.losses import is_misclassified
from tscnc_deploy.robustness.noise import Noise, gaussian
from tscnc_deploy.robustness.statistics.intervals import accuracy, check_confidence, clopper_pearson

ABSTAINED = -1


@dataclass(frozen=True, eq=False)
class SmoothingResult:
    """The certificates of the smoothed classifier.

    Attributes:
        base: Accuracy of the classifier itself on clean images.
        labels: int64 [N].
        predictions: int64 [N], the certified class, or -1 if there is none.
        radii: float64 [N], the L2 distance, in units of pixels in [0, 1], within which the smoothed classifier's
            prediction does not change; 0 if it is not certified.
        largest_radius: The radius if all noisy copies agree; a larger one needs a larger n.
        settings: sigma, n0, n, alpha and seed.
        confidence: Confidence of the intervals.
    """

    base: Accuracy
    labels: Tensor
    predictions: Tensor
    radii: Tensor
    largest_radius: float
    settings: dict[str, float]
    confidence: float

    def certified_accuracy(self, radius: float) -> Accuracy:
        """Share of images that are certified for their label at this radius; an abstention counts as wrong.

        The interval covers only the choice of images. In addition, each certificate is wrong with probability alpha.
        """
        certified = (self.predictions == self.labels) & (self.radii >= radius)
        return accuracy(int(certified.sum()), len(certified), self.confidence)

    @property
    def record(self) -> record.Smoothing:
        """All figures and settings, with the certified accuracy at each quarter of sigma up to the largest radius."""
        step = self.settings["sigma"] / 4
        radii = [place * step for place in range(math.floor(self.largest_radius / step) + 1)]
        return record.Smoothing(
            **self.settings,
            norm="L2",
            base=self.base,
            abstained=int((self.predictions == ABSTAINED).sum()),
            largest_radius=self.largest_radius,
            curve=tuple(record.Certified(radius=radius, **dict(self.certified_accuracy(radius))) for radius in radii),
        )


def certify(
    classifier: Classifier,
    images: Tensor,
    labels: Tensor,
    sigma: float,
    *,
    n0: int = 100,
    n: int = 1000,
    alpha: float = 0.001,
    seed: int = 0,
    batch_size: int = 256,
    confidence: float = 0.95,
    progress: Progress | None = None,
) -> SmoothingResult:
    """Certifies, for every image, the class that the classifier most often predicts for noisy copies of it.

    The smoothed classifier g(x) is the most probable class of f(x + z), where z is normal with deviation sigma. If that
    class has a probability of at least p > 1/2, g predicts it for every point within sigma * Phi^-1(p) of x. The most
    frequent class of n0 noisy copies is chosen; from n others, p is bounded from below at level 1 - alpha.

    Noisy images are clipped to [0, 1], because engines and most models accept no other values. The certificate remains
    valid: it holds for every function f on the whole space, so also for "clip, then classify". What is certified is
    then noise followed by clipping, so a deployment of g must do the same.

    Args:
        classifier: The base classifier f: a model, a function, or a victim's `logits`, so also an engine.
        images: float32 [N, C, H, W] in [0, 1], on the classifier's device.
        labels: int64 [N].
        sigma: Standard deviation of the noise, in units of pixels in [0, 1]; positive.
        n0: Number of noisy copies for choosing the class.
        n: Number of noisy copies for bounding its probability.
        alpha: Maximum probability that a certificate is wrong, in (0, 0.5).
        seed: Seed of the noise, which for each copy of an image does not depend on the batch size or n.
        batch_size: Noisy images per call of the classifier.
        confidence: Confidence of the intervals of the certified accuracy, in (0, 1).
        progress: Called with "certify", noisy images done and noisy images to do.

    Raises:
        InputError: Images, labels, logits or settings would give a wrong result.

    Source: Cohen, Rosenfeld and Kolter, "Certified adversarial robustness via randomized smoothing", arXiv 1902.02918,
    CERTIFY in section 3.2.2 and theorem 1.
    """
    _check_settings(sigma, n0, n, alpha)
    check_confidence(confidence, above=0)
    logits = classify_clean(classifier, images, labels, batch_size)
    labels = labels.cpu()
    correct = ~is_misclassified(logits, labels)
    choosing = torch.zeros(logits.shape, dtype=torch.int64)
    bounding = torch.zeros_like(choosing)
    done = 0
    for rows, copies, noisy in _noisy(images, sigma, n0 + n, seed, batch_size):
        with error_context(f"certify, after {done} of {len(images) * (n0 + n)} noisy images"):
            classes = classify(classifier, noisy, logits.shape[1]).argmax(1)
        for counts, of_them in ((choosing, copies < n0), (bounding, copies >= n0)):
            ones = torch.ones(int(of_them.sum()), dtype=torch.int64)
            counts.index_put_((rows[of_them], classes[of_them]), ones, accumulate=True)
        done += len(rows)
        if progress:
            progress("certify", done, len(images) * (n0 + n))

    predictions = choosing.argmax(1)
    counts = bounding.gather(1, predictions[:, None]).squeeze(1)
    radii = torch.tensor([_radius(count, n, alpha, sigma) for count in counts.tolist()], dtype=torch.float64)
    return SmoothingResult(
        base=accuracy(int(correct.sum()), len(correct), confidence),
        labels=labels,
        predictions=torch.where(radii > 0, predictions, ABSTAINED),
        radii=radii,
        largest_radius=_radius(n, n, alpha, sigma),
        settings={"sigma": sigma, "n0": n0, "n": n, "alpha": alpha, "seed": seed},
        confidence=confidence,
    )


def _noisy(
    images: Tensor, sigma: float, copies: int, seed: int, batch_size: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Batches of noisy copies: which image, int64 [B], which copy, int64 [B], and float32 [B, C, H, W] in [0, 1]."""
    total = len(images) * copies
    for start in range(0, total, batch_size):
        pairs = torch.arange(start, min(start + batch_size, total))
        rows, numbers = pairs // copies, pairs % copies
        # Each copy of each image has its own number, independent of the number of copies.
        noise = Noise(seed, (rows * 2**32 + numbers).to(images.device), "smoothing")
        noisy = images[rows] + sigma * gaussian(noise, 0, tuple(images.shape[1:]))
        yield rows, numbers, noisy.clamp(0, 1)


def _radius(count: int, n: int, alpha: float, sigma: float) -> float:
    """The certified radius if `count` of n noisy copies agree; 0 if the lower bound of p is not above 1/2."""
    probability, _ = clopper_pearson(count, n, 1 - 2 * alpha)
    return sigma * float(norm.ppf(probability)) if probability > 0.5 else 0.0


def _check_settings(sigma: float, n0: int, n: int, alpha: float) -> None:
    if not 0 < sigma < math.inf:
        msg = f"sigma = {sigma:g} is not a positive standard deviation"
        raise InputError(msg)
    if not 0 < alpha < 0.5:
        msg = f"alpha = {alpha:g} is not between 0 and 0.5; write 0.001 for one wrong certificate in a thousand"
        raise InputError(msg)
    for name, count in (("n0", n0), ("n", n)):
        if count < 1:
            msg = f"{name} = {count} is not a positive number of noisy copies"
            raise InputError(msg)
