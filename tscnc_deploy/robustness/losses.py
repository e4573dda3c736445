"""What attacks maximise, per image, from logits float32 [N, K] and labels int64 [N]."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F


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


def misclassified(logits: Tensor, labels: Tensor) -> Tensor:
    """bool [N]: the first of the largest logits is not the label's."""
    return logits.argmax(1) != labels


def _split(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The label's logit, [N], and all logits with -inf in its place, [N, K]."""
    own = labels[:, None]
    # Out of place: the logits belong to whoever computed them.
    return logits.gather(1, own).squeeze(1), logits.scatter(1, own, -math.inf)
