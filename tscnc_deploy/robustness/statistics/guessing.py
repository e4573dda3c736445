"""Whether a clean accuracy can be told from guessing."""

from __future__ import annotations

import torch
from torch import Tensor

from tscnc_deploy.record import GUESSING, Accuracy, MaskingWarning


def guessing(clean: Accuracy, labels: Tensor) -> MaskingWarning | None:
    """A warning if whoever always names the most frequent class may do as well; None otherwise.

    Robust accuracy says nothing then: a classifier that gives every image the same label cannot be attacked.

    Args:
        clean: Accuracy on clean images.
        labels: int64 [N], their labels.
    """
    share = float(torch.bincount(labels).max()) / len(labels)
    if clean.low > share:
        return None
    return MaskingWarning(
        name=GUESSING,
        message=(
            f"clean accuracy {clean.accuracy:.1%} [{clean.low:.1%}, {clean.high:.1%}] cannot be told from guessing: "
            f"{share:.1%} of the images are of one class"
        ),
    )
