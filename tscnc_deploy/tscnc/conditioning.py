"""Measures how well conditioned the layers of a network are."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tscnc_deploy.tscnc.layers import as_matrix, layer_weights


@dataclass(frozen=True)
class LayerCondition:
    """Statistics of the spectrum of one layer's weight W [out, in * kh * kw].

    Attributes:
        name: Name of the parameter.
        shape: Shape of the parameter.
        parameters: Number of weights.
        nonzero: Number of weights that are not zero.
        kappa: sigma_max / sigma_min over the non-zero singular values; NaN if all weights are zero.
        rank: Number of singular values above the rounding of float32 weights, sqrt(max(shape)) * 1.2e-7 of the largest.
        full_rank: min(out, in * kh * kw), the rank that W could have.
        spectral_norm: sigma_max.
        filters: Number of output channels.
        dead_filters: Output channels without a single non-zero weight.
    """

    name: str
    shape: tuple[int, ...]
    parameters: int
    nonzero: int
    kappa: float
    rank: int
    full_rank: int
    spectral_norm: float
    filters: int
    dead_filters: int

    @property
    def sparsity(self) -> float:
        """Share of the weights that are zero."""
        return 1 - self.nonzero / self.parameters

    def to_json(self) -> dict[str, Any]:
        """All attributes and the sparsity; a kappa that is not finite becomes None."""
        kappa = self.kappa if math.isfinite(self.kappa) else None
        return asdict(self) | {"shape": list(self.shape), "kappa": kappa, "sparsity": self.sparsity}


@torch.no_grad()
def condition(weight: Tensor, name: str = "") -> LayerCondition:
    """Statistics of one layer's weight, [out, in, kh, kw] or [out, in], finite; computed in float64."""
    matrix = as_matrix(weight)
    occupied = matrix != 0
    alive = occupied.any(dim=1)
    core = matrix[alive][:, occupied.any(dim=0)].double()
    if core.shape[0] > core.shape[1]:
        core = core.T
    sigma = torch.linalg.eigvalsh(core @ core.T).clamp(min=0).sqrt() if core.numel() else torch.zeros(0)
    largest = float(sigma.max()) if len(sigma) else 0.0
    # Rounding gives a rank-deficient weight spurious singular values of this size.
    rounding = math.sqrt(max(matrix.shape)) * torch.finfo(torch.float32).eps
    nonzero_sigma = sigma[sigma > rounding * largest]
    return LayerCondition(
        name=name,
        shape=tuple(weight.shape),
        parameters=weight.numel(),
        nonzero=int(occupied.sum()),
        kappa=largest / float(nonzero_sigma.min()) if len(nonzero_sigma) else math.nan,
        rank=len(nonzero_sigma),
        full_rank=min(matrix.shape),
        spectral_norm=largest,
        filters=matrix.shape[0],
        dead_filters=int((~alive).sum()),
    )


def conditions(model: nn.Module) -> list[LayerCondition]:
    """Statistics of every prunable layer of a model, in order."""
    with torch.no_grad():
        return [condition(weight, name) for name, weight in layer_weights(model).items()]
