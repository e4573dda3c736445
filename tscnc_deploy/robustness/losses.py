"""What attacks maximise, per image, from logits float32 [N, K] and labels int64 [N]."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

Loss = Callable[[Tensor, Tensor], Tensor]

# From so many classes on, the gaps that the difference of logits ratio divides by are more than its numerator.
DLR_CLASSES = 4
# Keeps the ratio finite where all logits are equal.
_TINY = 1e-12


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Largest logit of another class minus the logit of the label, [N]: above 0 only where it is misclassified."""
    own, others = _split(logits, labels)
    return others.amax(1) - own


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the softmax in nats, [N]; to be summed, not averaged: small gradients would vanish in a mean.

    Written as softplus(logsumexp(others) - own). The usual form computes the gradient of the label's own logit as
    p - 1, which in float32 is 0 beyond a margin of 17 while the other logits still have theirs: the direction is then
    wrong. This one keeps it down to the smallest float, a margin of about 100.
    """
    own, others = _split(logits, labels)
    return F.softplus(others.logsumexp(1) - own)


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """Difference of logits ratio, [N]: the margin over the gap between the largest and the third largest logit.

    Neither a scale nor a shift of the logits changes it, so large logits do not flatten it as they do cross-entropy.
    With fewer than 4 classes the gap says too little, and the margin stands alone.

    Source: Croce and Hein, arXiv 2003.01690, eq. 6.
    """
    if logits.shape[1] < DLR_CLASSES:
        return margin(logits, labels)
    top = logits.topk(3, dim=1).values
    return margin(logits, labels) / (top[:, 0] - top[:, 2] + _TINY)


def targeted_dlr(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """The target's logit minus the label's, [N], over a gap between the largest and the third and fourth largest.

    With fewer than 4 classes there is no such gap, and the difference stands alone.

    Args:
        logits: float32 [N, K].
        labels: int64 [N].
        targets: int64 [N], the class of each image that is aimed at.

    Source: Croce and Hein, arXiv 2003.01690, eq. 7.
    """
    chosen = logits.gather(1, labels[:, None]), logits.gather(1, targets[:, None])
    lead = (chosen[1] - chosen[0]).squeeze(1)
    if logits.shape[1] < DLR_CLASSES:
        return lead
    top = logits.topk(4, dim=1).values
    return lead / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + _TINY)


def is_misclassified(logits: Tensor, labels: Tensor) -> Tensor:
    """bool [N]: the first of the largest logits is not the label's, or is not finite.

    So attacks bring back the points where a model overflows, instead of passing them over: every comparison with NaN
    is false. Whoever counts refuses them.
    """
    # A NaN anywhere is the largest.
    return (logits.argmax(1) != labels) | ~logits.amax(1).isfinite()


def _split(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The label's logit, [N], and all logits with -inf in its place, [N, K]."""
    own = labels[:, None]
    # Out of place: the logits belong to whoever computed them.
    return logits.gather(1, own).squeeze(1), logits.scatter(1, own, -math.inf)


# By the name that settings give them.
LOSSES: dict[str, Loss] = {"cross-entropy": cross_entropy, "dlr": dlr, "margin": margin}
