"""Completes an unstructured mask to 2:4, as sparse tensor cores require, and reports the cost per layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from tscnc_deploy.tscnc.patterns import fits_n_of_m, n_of_m_mask


@dataclass(frozen=True)
class LayerCompletion:
    """The cost of completing one layer.

    Attributes:
        name: Name of the weight.
        completed: Whether it complies now; layers that cannot be grouped, or are too narrow to gain speed, are not
            changed.
        groups: Number of groups of 4 weights along the input channels; 0 if they cannot be grouped.
        excess_groups: Number of groups with more than 2 weights before.
        nonzero: Number of weights before.
        dropped: Number of weights that were removed.
        regrown: Number of weights that were added elsewhere in the layer.
        saliency_lost: Share of the layer's saliency that the removed weights had, in [0, 1].
    """

    name: str
    completed: bool
    groups: int
    excess_groups: int
    nonzero: int
    dropped: int
    regrown: int
    saliency_lost: float

    def to_json(self) -> dict[str, Any]:
        """All attributes by name."""
        return asdict(self)


def complete_2_4(
    masks: Mapping[str, Tensor],
    saliency: Mapping[str, Tensor],
    *,
    least_channels: int = 1,
    regrow: Mapping[str, Tensor] | None = None,
) -> tuple[dict[str, Tensor], list[LayerCompletion]]:
    """Drops the least salient weights of every group of 4 input channels that has more than 2.

    A group that complies is not changed, and no group loses its last weight, so no filter becomes empty.

    Args:
        masks: True where a weight is kept, by layer, [out, in, kh, kw] or [out, in].
        saliency: Saliency of each weight, >= 0, of the same shapes; only kept weights count.
        least_channels: Layers with fewer input or output channels are not changed.
        regrow: If given, each layer regains as many weights as it loses, where 2:4 allows it, by the largest of these
            scores. They need training, because their values are unknown.

    Returns:
        The new masks, and the cost of every layer in the order of `masks`.
    """
    completed, costs = {}, []
    for name, mask in masks.items():
        can = fits_n_of_m(mask.shape) and min(mask.shape[:2]) >= least_channels
        new = _completed(mask, saliency[name]) if can else mask
        dropped = int(mask.sum() - new.sum())
        if can and regrow is not None:
            new = _regrown(new, regrow[name], dropped)
        kept = (new & mask) * saliency[name]
        total = float((mask * saliency[name]).sum(dtype=torch.float64))
        costs.append(
            LayerCompletion(
                name=name,
                completed=can,
                groups=mask.numel() // 4 if fits_n_of_m(mask.shape) else 0,
                excess_groups=_excess_groups(mask),
                nonzero=int(mask.sum()),
                dropped=dropped,
                regrown=int(new.sum()) - int(mask.sum()) + dropped,
                saliency_lost=1 - float(kept.sum(dtype=torch.float64)) / total if dropped and total else 0.0,
            )
        )
        completed[name] = new
    return completed, costs


def _completed(mask: Tensor, saliency: Tensor) -> Tensor:
    return mask & n_of_m_mask(saliency.masked_fill(~mask, -1))


def _regrown(mask: Tensor, scores: Tensor, count: int) -> Tensor:
    """The mask with up to `count` more weights, in groups with fewer than 2."""
    room = n_of_m_mask(scores.masked_fill(mask, torch.inf)) & ~mask
    count = min(count, int(room.sum()))
    chosen = scores.masked_fill(~room, -torch.inf).flatten().topk(count).indices
    regrown = mask.clone().flatten()
    regrown[chosen] = True
    return regrown.view_as(mask)


def _excess_groups(mask: Tensor) -> int:
    if not fits_n_of_m(mask.shape):
        return 0
    return int((mask.movedim(1, -1).reshape(-1, 4).sum(1) > 2).sum())
