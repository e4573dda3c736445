"""Empirical local Lipschitz constants: how fast the logits can change near each image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tscnc_deploy import record
from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness import checks
from tscnc_deploy.robustness.attacks.base import evaluate_points, gradient
from tscnc_deploy.robustness.classifier import classify
from tscnc_deploy.robustness.error_context import error_context
from tscnc_deploy.robustness.evaluation import Progress
from tscnc_deploy.robustness.noise import Noise
from tscnc_deploy.robustness.statistics.intervals import check_confidence
from tscnc_deploy.robustness.statistics.quantiles import quantiles
from tscnc_deploy.robustness.threat import Threat
from tscnc_deploy.robustness.victims import Victim

RADII = (1.0, 0.5, 0.25, 0.125)


@dataclass(frozen=True, eq=False)
class LocalLipschitz:
    """Lower bounds of the local Lipschitz constants, each with a pair of points that proves it.

    Attributes:
        constants: float64 [N], in units of logits per unit of pixels in [0, 1].
        epsilon: Radius of the Linf balls.
        settings: Steps, restarts and seed.
        confidence: Of the intervals.
    """

    constants: Tensor
    epsilon: float
    settings: dict[str, int]
    confidence: float

    @property
    def record(self) -> record.Lipschitz:
        """Mean with its standard error (None for one image), maximum, quantiles with intervals, and all settings."""
        total = len(self.constants)
        return record.Lipschitz(
            norm="Linf",
            epsilon=self.epsilon,
            total=total,
            mean=self.constants.mean().item(),
            standard_error=self.constants.std().item() / math.sqrt(total) if total > 1 else None,
            largest=self.constants.max().item(),
            quantiles=tuple(quantiles(self.constants, confidence=self.confidence)),
            **self.settings,
        )


# Gradients cannot be computed inside a caller's inference mode.
@torch.inference_mode(mode=False)
def local_lipschitz(
    victim: Victim,
    images: Tensor,
    epsilon: float,
    *,
    steps: int = 20,
    restarts: int = 2,
    seed: int = 0,
    batch_size: int = 256,
    confidence: float = 0.95,
    progress: Progress | None = None,
) -> LocalLipschitz:
    """Maximises ||f(x) - f(x')||_1 / ||x - x'||_inf over x' in the Linf ball around each image x; f gives the logits.

    The largest quotient in the ball is that of the largest numerator in a ball of some radius up to epsilon. The
    numerator is therefore maximised, by steps along the sign of its gradient from random points, in balls of epsilon,
    epsilon/2, epsilon/4 and epsilon/8, and the largest quotient over all points visited counts. Logits of a quantised
    engine are step functions, so its constants grow without bound as distances shrink: compare them with its twin's at
    the same epsilon.

    Args:
        victim: Gives logits and gradients (`ModelVictim` or `EngineVictim`).
        images: float32 [N, C, H, W] in [0, 1].
        epsilon: Radius in the unit of the pixels, in (0, 1].
        steps: Gradients per start, at least 1.
        restarts: Starts per ball, at least 1.
        seed: Seed of the starts.
        batch_size: Images per forward pass; affects results only by rounding.
        confidence: Confidence of the intervals, in (0, 1).
        progress: Called with "lipschitz", images done and images to do.

    Raises:
        InputError: Images, logits or settings would give a wrong result, or the victim has no gradients.

    Source: Yang, Rashtchian, Zhang, Salakhutdinov and Chaudhuri, "A closer look at accuracy vs. robustness", arXiv
    2003.02460; reported for sparse models in arXiv 2503.20454.
    """
    checks.check_pixels(images)
    check_confidence(confidence, above=0)
    if not victim.has_gradient:
        msg = "a local Lipschitz constant needs gradients, but an engine without a twin has none; add its twin"
        raise InputError(msg)
    for name, count in (("steps", steps), ("restarts", restarts), ("batch_size", batch_size)):
        if count < 1:
            msg = f"{name} = {count} is not a positive number"
            raise InputError(msg)
    threats = [Threat(epsilon=epsilon * share) for share in RADII for _ in range(restarts)]
    parts, done = [], 0
    for batch in torch.split(torch.arange(len(images)), batch_size):
        noise = Noise(seed, batch.to(victim.device), "local-lipschitz")
        points = images[batch.to(images.device)].to(victim.device)
        with error_context(f"lipschitz, after {done} of {len(images)} images"):
            parts.append(_largest_quotients(victim, points, threats, noise, steps))
        done += len(batch)
        if progress:
            progress("lipschitz", done, len(images))
    settings = {"steps": steps, "restarts": restarts, "seed": seed}
    return LocalLipschitz(torch.cat(parts), epsilon, settings, confidence)


def _largest_quotients(victim: Victim, images: Tensor, threats: list[Threat], noise: Noise, steps: int) -> Tensor:
    """The largest quotients over all points of one ascent per threat, float64 [N] on the CPU."""
    clean = classify(victim.logits, images)
    checks.check_values(clean)
    clean = clean.to(images.device)
    classes = clean.argmax(1)

    def change(logits: Tensor, _labels: Tensor) -> Tensor:
        return (logits - clean).abs().sum(1)

    largest = torch.zeros(len(images), dtype=torch.float64, device=images.device)
    for counter, threat in enumerate(threats):
        low, high = threat.bounds(images)
        points = torch.lerp(low, high, noise.uniform(counter, tuple(images.shape[1:])))
        # Far enough to reach every corner of the ball from any point.
        step = 2.5 * threat.epsilon / steps
        for _ in range(steps):
            changes, _, slope = gradient(victim, points, classes, change)
            largest = torch.maximum(largest, _quotients(changes, threat.length(points.double() - images.double())))
            points = torch.clamp(points + step * slope.sign(), low, high)
        changes, _ = evaluate_points(victim, points, classes, change)
        largest = torch.maximum(largest, _quotients(changes, threat.length(points.double() - images.double())))
    checks.check_finite(largest[:, None])
    return largest.cpu()


def _quotients(changes: Tensor, distances: Tensor) -> Tensor:
    # A random start can, with negligible probability, be the image itself.
    return torch.where(distances > 0, changes.double() / distances, 0)
