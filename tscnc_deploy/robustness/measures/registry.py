"""Robustness beyond attacks at one epsilon: five measures by name, at settings that make networks comparable."""

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

# By name, about how many forward passes each takes for an image, with gradients.
PASSES = {"corruptions": 71, "curve": 250, "smallest-epsilon": 330, "lipschitz": 330, "smoothing": 1101}

# Of the threat's epsilon: where the curve has its points. The last is how far the smallest epsilon is searched for.
MULTIPLES = (0.25, 0.5, 1.0, 1.5, 2.0, 4.0)
STEPS = 20
QUERIES = 500
# The smallest noise of Cohen et al.: a network that saw no noise in training withstands little more.
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
    """One measure of `MEASURES`, as the record takes it: every figure with its 95% interval, and every setting.

    - "corruptions": accuracy under 14 corruptions of CIFAR-10-C at five severities, and its mean; 70 passes an image.
    - "curve": worst-case accuracy at 1/4 to 4 times the threat's epsilon, in its norm, under APGD-CE of 20 steps, or
      Square of 500 queries on a victim without gradients.
    - "smallest-epsilon": quantiles of each image's smallest adversarial epsilon, sought with the same attack up to 4
      times the threat's epsilon.
    - "lipschitz": quantiles of the local Lipschitz constants, 20 steps from 2 points in each of 4 balls; their largest
      radius is the threat's epsilon, for an L2 threat that of the largest Linf ball inside its ball.
    - "smoothing": certified accuracy over the L2 radius from 100 + 1,000 noisy copies of each image at alpha = 0.001.
      For an L2 threat sigma is epsilon / 2, so that a radius of epsilon can be certified; for Linf it is 0.12.

    Args:
        name: One of `MEASURES`.
        victim: A model, an engine beside its twin, or an engine alone; "lipschitz" needs gradients.
        images: float32 [N, C, H, W] in [0, 1], on any device, which is where they are corrupted.
        labels: int64 [N].
        threat: Gives the norm and the epsilon that the measures look around.
        seed: Of everything random.
        batch_size: Images per forward pass.
        progress: Called with what is being done, steps done and steps to do.

    Returns:
        The class of `tscnc_deploy.record` for it: `Corruptions`, `Curve`, `SmallestEpsilons`, `Lipschitz` or
        `Smoothing`.

    Raises:
        InputError: Unknown name; "lipschitz" of a victim without gradients; images, labels or logits that would give a
            wrong number; a victim that answers differently each time, unless it is an `EOTVictim`.
    """
    if name not in MEASURES:
        msg = f"measure {name!r} {not_among(name, MEASURES)}"
        raise InputError(msg)
    checks.check_images(images, labels)
    check_repeatable(victim, images[: max(1, min(batch_size, 16))])
    options = _Options(seed=seed, batch_size=batch_size, progress=progress)
    root = math.sqrt(images[0].numel())
    # In L2 no two images are further apart than the root of the number of pixels, in Linf than 1.
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
