"""Robustness beyond attacks at a single epsilon: five measures by name, with fixed settings for comparability."""

from __future__ import annotations

import math
from typing import TypedDict

from torch import Tensor

from tscnc_deploy.errors import InputError
from tscnc_deploy.names import MEASURES
from tscnc_deploy.record import Measure
from tscnc_deploy.robustness import checks
from tscnc_deploy.robustness.attacks.apgd import APGDCE
from tscnc_deploy.robustness.attacks.base import Attack
from tscnc_deploy.robustness.attacks.square import Square
from tscnc_deploy.robustness.eot import check_repeatable
from tscnc_deploy.robustness.evaluation import Progress
from tscnc_deploy.robustness.measures.corruptions import evaluate_corruptions
from tscnc_deploy.robustness.measures.curves import accuracy_curve
from tscnc_deploy.robustness.measures.lipschitz import local_lipschitz
from tscnc_deploy.robustness.measures.smallest_epsilon import smallest_epsilons
from tscnc_deploy.robustness.measures.smoothing import certify
from tscnc_deploy.robustness.threat import Threat
from tscnc_deploy.robustness.victims import Victim
from tscnc_deploy.text import not_among

# Approximate number of forward passes per image of each measure, with gradients.
PASSES = {"corruptions": 71, "curve": 250, "smallest-epsilon": 330, "lipschitz": 330, "smoothing": 1101}

# The points of the curve, relative to the threat's epsilon. The last is the upper bound for the smallest epsilon.
MULTIPLES = (0.25, 0.5, 1.0, 1.5, 2.0, 4.0)
STEPS = 20
QUERIES = 500
# The smallest noise of Cohen et al.; a network trained without noise tolerates little more.
LINF_SIGMA = 0.12


class _Options(TypedDict):
    seed: int
    batch_size: int
    progress: Progress | None


def measure(
    name: str,
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    *,
    seed: int = 0,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> Measure:
    """Computes a measure of `MEASURES` for the record: all figures with 95% intervals, and all settings.

    - "corruptions": accuracy under 14 corruptions of CIFAR-10-C at five severities, and its mean; 70 passes an image.
    - "curve": worst-case accuracy at 1/4 to 4 times the threat's epsilon, in its norm, under APGD-CE of 20 steps, or
      Square of 500 queries on a victim without gradients.
    - "smallest-epsilon": quantiles of each image's smallest adversarial epsilon, searched with the same attack up to 4
      times the threat's epsilon.
    - "lipschitz": quantiles of the local Lipschitz constants, 20 steps from 2 points in each of 4 balls; their largest
    radius is the threat's epsilon, or for an L2 threat, that of the largest Linf ball inside its ball.
    - "smoothing": certified accuracy over the L2 radius from 100 + 1,000 noisy copies of each image at alpha = 0.001.
      For an L2 threat, sigma is epsilon / 2, so that a radius of epsilon can be certified; for Linf it is 0.12.

    Args:
        name: One of `MEASURES`.
        victim: A model, an engine with its twin, or an engine alone; "lipschitz" needs gradients.
        images: float32 [N, C, H, W] in [0, 1], on any device; corruptions are computed there.
        labels: int64 [N].
        threat: Gives the norm and the epsilon for the measures.
        seed: Seed of all random numbers.
        batch_size: Images per forward pass.
        progress: Called with the current activity, steps done and steps to do.

    Returns:
        An instance of the corresponding class of `tscnc_deploy.record`: `Corruptions`, `Curve`, `SmallestEpsilons`,
        `Lipschitz` or `Smoothing`.

    Raises:
        InputError: Unknown name; "lipschitz" for a victim without gradients; images, labels or logits that would give a
            wrong result; a randomised victim that is not an `EOTVictim`.
    """
    if name not in MEASURES:
        msg = f"measure {name!r} {not_among(name, MEASURES)}"
        raise InputError(msg)
    checks.check_images(images, labels)
    check_repeatable(victim, images[: max(1, min(batch_size, 16))])
    options = _Options(seed=seed, batch_size=batch_size, progress=progress)
    root = math.sqrt(images[0].numel())
    # The largest distance between two images is the root of the number of pixels in L2, and 1 in Linf.
    whole = 1.0 if threat.norm == "Linf" else root
    epsilons = sorted({min(multiple * threat.epsilon, whole) for multiple in MULTIPLES})
    attack: Attack = APGDCE(STEPS) if victim.has_gradient else Square(QUERIES)

    def classifier(batch: Tensor) -> Tensor:
        return victim.logits(batch.to(victim.device))

    if name == "corruptions":
        return evaluate_corruptions(classifier, images, labels, **options).record
    if name == "curve":
        return accuracy_curve(victim, images, labels, epsilons, [attack], norm=threat.norm, **options).record
    if name == "smallest-epsilon":
        return smallest_epsilons(victim, images, labels, attack, epsilons[-1], norm=threat.norm, **options).record
    if name == "lipschitz":
        radius = min(threat.epsilon, whole) / (1 if threat.norm == "Linf" else root)
        return local_lipschitz(victim, images, radius, steps=STEPS, **options).record
    sigma = LINF_SIGMA if threat.norm == "Linf" else threat.epsilon / 2
    return certify(classifier, images, labels, sigma, **options).record
