"""The losses that attacks maximise, per image, from logits float32 [N, K] and labels int64 [N]."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

Loss = Callable[[Tensor, Tensor], Tensor]

# With fewer classes, the difference of logits ratio would divide by its own numerator.
DLR_CLASSES = 4
# Keeps the ratio finite if all logits are equal, and leaves it what it is for logits of any other scale.
_TINY = 1e-30


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Largest logit of another class minus the logit of the label, [N]: positive only if misclassified."""
    own, others = _split(logits, labels)
    return others.amax(1) - own


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the softmax in nats, [N]; sum it instead of averaging, so that small gradients do not vanish.

    Written as softplus(logsumexp(others) - own). The usual form computes the gradient of the label's own logit as
    p - 1, which in float32 is 0 beyond a margin of 17 while the gradients of the other logits are not: the direction is
    then wrong. This form keeps it down to the smallest float, a margin of about 100.
    """
    own, others = _split(logits, labels)
    return F.softplus(others.logsumexp(1) - own)


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """Difference of logits ratio, [N]: the margin divided by the gap between the largest and third largest logit.

    It is invariant to scaling and shifting the logits, so unlike cross-entropy it does not saturate for large logits.
    With fewer than 4 classes it is not meaningful, and the plain margin is used.

    Source: Croce and Hein, arXiv 2003.01690, eq. 6.
    """
    if logits.shape[1] < DLR_CLASSES:
        return margin(logits, labels)
    top = logits.topk(3, dim=1).values
    return margin(logits, labels) / (top[:, 0] - top[:, 2] + _TINY)


def targeted_dlr(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """The target's logit minus the label's, [N], divided by a gap between the largest and the third and fourth largest.

    With fewer than 4 classes this gap does not exist, and the plain difference is used.

    Args:
        logits: float32 [N, K].
        labels: int64 [N].
        targets: int64 [N], the target class of each image.

    Source: Croce and Hein, arXiv 2003.01690, eq. 7.
    """
    chosen = logits.gather(1, labels[:, None]), logits.gather(1, targets[:, None])
    lead = (chosen[1] - chosen[0]).squeeze(1)
    if logits.shape[1] < DLR_CLASSES:
        return lead
    top = logits.topk(4, dim=1).values
    return lead / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + _TINY)


def is_misclassified(logits: Tensor, labels: Tensor) -> Tensor:
    """bool [N]: whether the first of the largest logits is not the label's, or is not finite.

    Attacks therefore return points where a model overflows instead of ignoring them (every comparison with NaN is
    false); the evaluation refuses them.
    """
    # NaN counts as the largest.
    return (logits.argmax(1) != labels) | ~logits.amax(1).isfinite()


def _split(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The label's logit, [N], and all logits with the label's replaced by -inf, [N, K]."""
    own = labels[:, None]
    # Out of place: the logits belong to the caller.
    return logits.gather(1, own).squeeze(1), logits.scatter(1, own, -math.inf)


# By the name used in settings.
LOSSES: dict[str, Loss] = {"cross-entropy": cross_entropy, "dlr": dlr, "margin": margin}
