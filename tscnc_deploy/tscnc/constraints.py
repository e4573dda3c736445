"""Condition-number constraints L_CC on the layers' masked weights, added to the training loss as lambda * L_CC."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from tscnc_deploy.tscnc.layers import as_matrix

ConstraintName = Literal["log-frobenius", "kaporin", "tscnc"]


def log_frobenius(weight: Tensor, *, tau: float = 1e-4) -> Tensor:
    """The transformed sparse constraint of arXiv 2503.20454 for one layer: log(tau + ||W||_F^2).

    It bounds the largest singular value but does not depend on the smallest: two weights of equal Frobenius norm get
    the same value whatever their condition numbers. Use `log_kaporin` for those. Its gradient, 2 W / (tau +
    ||W||_F^2), grows as a weight shrinks. Batch norms hide this from the loss, until layers without one become
    ineffective. Use a small lambda, and a smaller one for longer trainings.

    Args:
        weight: Masked weight, [out, in, kh, kw] or [out, in].
        tau: Keeps the logarithm finite for an empty layer; should be far below any layer's squared norm.

    Returns:
        Scalar >= log(tau), float32.
    """
    return torch.log(tau + weight.float().square().sum())


def log_kaporin(weight: Tensor, *, jitter: float = 1e-4) -> Tensor:
    """Normalised log of Kaporin's K-condition number of one layer's weight.

    With G the Gram matrix of the smaller side, m its size, G' = G + jitter * tr(G) / m * I: log(tr(G') / m) -
    logdet(G') / m, the log of the arithmetic over the geometric mean of the (jittered) squared singular values. Rows
    and columns that are entirely zero are excluded, as they do not contribute a singular value: dead filters are
    counted, not penalised.

    Args:
        weight: Masked weight, [out, in, kh, kw] or [out, in]; any dtype, computed in float32, factorised in float64.
        jitter: Relative to the mean eigenvalue of G; keeps rank-deficient weights finite.

    Returns:
        Scalar >= 0, zero only when all singular values are equal or there are none; unchanged when the weight is
        scaled.

    Source: Kaporin, "New convergence results and preconditioning strategies for the conjugate gradient method",
    Numerical Linear Algebra with Applications 1(2), 1994; used as the condition-number constraint of arXiv 2503.20454.
    """
    matrix = as_matrix(weight).float()
    occupied = matrix.detach() != 0
    # Selected by number and only where something is left out: the gradient of a selection by a mask is slow.
    for dim in (0, 1):
        kept = occupied.any(dim=1 - dim).nonzero().squeeze(1)
        if len(kept) < matrix.shape[dim]:
            matrix = matrix.index_select(dim, kept)
    if matrix.numel() == 0:
        return weight.float().sum() * 0
    if matrix.shape[0] > matrix.shape[1]:
        matrix = matrix.T
    with torch.autocast(matrix.device.type, enabled=False):
        log_det, mean = _jittered_log_det(_Gram.apply(matrix), jitter)
        if not torch.isfinite(log_det):
            # The float32 Gram matrix lost its positive definiteness to rounding; in float64 the jitter restores it.
            log_det, mean = _jittered_log_det(_Gram.apply(matrix.double()), jitter)
    return (mean.log() + math.log1p(jitter) - log_det / matrix.shape[0]).float()


class _Gram(torch.autograd.Function):
    """M M^T, whose gradient takes one product of matrices instead of autograd's two."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        ctx.save_for_backward(matrix)
        return matrix @ matrix.T

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (matrix,) = ctx.saved_tensors
        return (gradient + gradient.T) @ matrix


def _jittered_log_det(gram: Tensor, jitter: float) -> tuple[Tensor, Tensor]:
    gram = gram.double()
    mean = gram.diagonal().mean()
    factor, info = torch.linalg.cholesky_ex(gram + jitter * mean * torch.eye(len(gram), device=gram.device))
    log_det = 2 * factor.diagonal().log().sum()
    return torch.where(info == 0, log_det, torch.nan), mean


@dataclass(frozen=True)
class Constraint:
    """L_CC of a network: the sum over layers of `log_frobenius`, `log_kaporin`, or both ("tscnc").

    Attributes:
        name: Name of the constraint.
        tau: See `log_frobenius`.
        jitter: See `log_kaporin`.
    """

    name: ConstraintName = "tscnc"
    tau: float = 1e-4
    jitter: float = 1e-4

    def __call__(self, weights: Iterable[Tensor]) -> Tensor:
        """Scalar float32 value over the layers' masked weights, differentiable in each of them."""
        total = torch.zeros(())
        for weight in weights:
            total = total.to(weight.device)
            if self.name in ("log-frobenius", "tscnc"):
                total = total + log_frobenius(weight, tau=self.tau)
            if self.name in ("kaporin", "tscnc"):
                total = total + log_kaporin(weight, jitter=self.jitter)
        return total
