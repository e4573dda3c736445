"""Stratified sampling: the same share of every class."""

from __future__ import annotations

import torch
from torch import Tensor


def stratified(labels: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draws images at random without replacement, from each class in proportion to its size.

    Shares that are no whole numbers are rounded by the largest remainder, ties going to the lower label, so that no
    class is more than one image off its share. With equally seeded generators, the drawn images of one class for a
    smaller count are among those for a larger one.

    Args:
        labels: int64 [N].
        count: How many to draw, from 0 to N.
        generator: CPU generator, advanced by N draws whatever the count.

    Returns:
        int64 [count] on the CPU: indices into the labels, ascending.

    Raises:
        ValueError: The count is not from 0 to N.
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
    """A random order in which every beginning holds about the same share of every class.

    Args:
        labels: int64 [N].
        generator: CPU generator.

    Returns:
        int64 [N] on the CPU: a permutation; of the first n images each class has its share of n, to within two.
    """
    labels = labels.cpu()
    # The images of a class are spread evenly over [0, 1), each anywhere in its own part of it.
    places = torch.empty(len(labels), dtype=torch.float64)
    for value in torch.unique(labels):
        members = (labels == value).nonzero().flatten()
        shuffled = members[torch.randperm(len(members), generator=generator)]
        offsets = torch.rand(len(members), dtype=torch.float64, generator=generator)
        places[shuffled] = (torch.arange(len(members), dtype=torch.float64) + offsets) / len(members)
    return places.argsort(stable=True)
