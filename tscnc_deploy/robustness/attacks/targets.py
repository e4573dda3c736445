"""Which wrong classes a targeted attack aims at."""

from __future__ import annotations

import math

from torch import Tensor

from tscnc_deploy.robustness.victim import Victim

# As many as the reference ensemble uses on 10 classes, and a bound on the cost with 1000.
TARGETS = 9


def likeliest_wrong(victim: Victim, images: Tensor, labels: Tensor, count: int) -> Tensor:
    """The wrong classes of largest logit on the images, largest first.

    Returns:
        int64 [N, min(count, K - 1)].
    """
    logits = victim.logits(images).scatter(1, labels[:, None], -math.inf)
    return logits.topk(min(count, logits.shape[1] - 1), dim=1).indices
