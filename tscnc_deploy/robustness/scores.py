"""Whether answers tell how close an image is to another class, which searches without gradients need to know.

A classifier that returns only a label, or logits that are rounded or saturated to a few values, gives such a search
nothing to follow: it looks robust to it, whether or not it is. `LABEL_ONLY` needs no more than the label.
"""

from __future__ import annotations

import torch
from torch import Tensor

LABEL_ONLY = ("hopskipjump-500",)
"""Names of the attacks for a classifier whose answers give no score."""

LEAST_IMAGES = 48
"""Different images that are needed to tell; fewer say nothing about the others."""

# Float32 logits of different images hardly ever coincide.
_DISTINCT = 0.5
_TIES = 0.05
# Adversarial examples lie on both sides of decision boundaries, so the two largest logits of some are close.
_CLOSEST = 0.5


def missing_score(logits: Tensor) -> str | None:
    """Why answers give no score; None if they do.

    They give none if the logits take fewer different values than half their number; if the two largest logits are equal
    on more than 5% of the images; or if the smallest difference between the two largest logits is more than half the
    median difference, which means that no answer is close to changing.

    Args:
        logits: float32 [N, K] on N different images, clean and adversarial. N should be at least `LEAST_IMAGES`.
    """
    count, classes = logits.shape
    if not count or classes < 2:
        return None
    distinct = len(torch.unique(logits))
    if distinct < _DISTINCT * logits.numel():
        return f"its {logits.numel()} logits on {count} different images take only {distinct} different values"
    best = logits.double().topk(2, dim=1).values
    margins = best[:, 0] - best[:, 1]
    ties = int((margins == 0).sum())
    if ties > _TIES * count:
        return f"the two largest logits are equal on {ties} of {count} different images"
    smallest, median = float(margins.min()), float(margins.median())
    if smallest > _CLOSEST * median:
        return (
            f"the two largest logits differ by at least {smallest:.3g} on all of {count} different images, by "
            f"{median:.3g} in the median: no answer is close to another class"
        )
    return None


def different_images(images: Tensor) -> Tensor:
    """The index of the first of each group of equal images, int64 [M], ascending.

    Args:
        images: float32 [N, C, H, W].
    """
    first: dict[bytes, int] = {}
    for row, image in enumerate(images.cpu().numpy()):
        first.setdefault(image.tobytes(), row)
    return torch.tensor(list(first.values()), dtype=torch.int64)
