"""Stratified sampling: the same share from every class."""

from __future__ import annotations

import torch
from torch import Tensor


def stratified(labels: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draws images at random without replacement, in proportion to the sizes of the classes.

    Fractional shares are rounded by the largest-remainder method with ties to the lower label, so no class is more
    than one image off its share. With equally seeded generators, the images of a class for a smaller count are a subset
    of those for a larger one.

    Args:
        labels: int64 [N].
        count: Number of images to draw, from 0 to N.
        generator: CPU generator; advanced by N draws whatever the count.

    Returns:
        int64 [count] on the CPU: indices into the labels, ascending.

    Raises:
        ValueError: The count is not in 0 to N.
    """
    total = len(labels)
    if not 0 <= count <= total:
        msg = f"cannot draw {count} of {total} images"
        raise ValueError(msg)
    labels = labels.cpu()
    classes = [(labels == value).nonzero().flatten() for value in sorted(set(labels.tolist()))]
    quotas = [divmod(count * len(members), total) for members in classes]
    shares = [whole for whole, _ in quotas]
    by_remainder = sorted(range(len(classes)), key=lambda k: -quotas[k][1])
    for k in by_remainder[: count - sum(shares)]:
        shares[k] += 1
    drawn = [
        members[torch.randperm(len(members), generator=generator)[:share]]
        for members, share in zip(classes, shares, strict=True)
    ]
    return torch.cat(drawn).sort().values if drawn else torch.empty(0, dtype=torch.int64)


def interleaved(labels: Tensor, generator: torch.Generator) -> Tensor:
    """A random order in which every prefix has about the same share of every class.

    Args:
        labels: int64 [N].
        generator: CPU generator.

    Returns:
        int64 [N] on the CPU: a permutation; among the first n images each class has its share of n, within two.
    """
    labels = labels.cpu()
    # The images of a class are spread evenly over [0, 1): one at a random position in each equal part.
    places = torch.empty(len(labels), dtype=torch.float64)
    for value in torch.unique(labels):
        members = (labels == value).nonzero().flatten()
        shuffled = members[torch.randperm(len(members), generator=generator)]
        offsets = torch.rand(len(members), dtype=torch.float64, generator=generator)
        places[shuffled] = (torch.arange(len(members), dtype=torch.float64) + offsets) / len(members)
    return places.argsort(stable=True)
