"""A faster eval-mode copy of a network for attacks, which can be updated with the network's weights.

Attacks take many gradients of a network that does not change in the meantime. The copy does not record gradients of
weights, does not require switching the mode of the network's batch norms, and has them folded into the preceding
convolutions. Kernels lose the taps that only ever read padding, see `models.taps`.
"""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from tscnc_deploy.models.taps import Taps, taps_by_layer

_log = logging.getLogger(__name__)
# Relative to the largest logit: folding only reorders sums; a larger difference is another function.
_AGREES = {torch.float32: 1e-3, torch.bfloat16: 0.1}


class FoldedCopy:
    """A copy of a network in eval mode that can be updated from it.

    Parts that are not folded share memory with the network; one that `torch.fx` cannot trace is shared entirely.

    Args:
        model: Any module. It is not changed, and must keep its parameters and buffers; their values may change.
        dtype: Dtype of the weights of the copy's convolutions and linear layers: float32, or bfloat16 if the copy runs
            under autocast, which then does not have to cast them in every pass.
        input_shape: Shape of all images that the copy will be given, [C, H, W]; parts that they do not need are
            removed, and a copy that computes something else than the network is not folded. None does neither.

    Attributes:
        network: The copy. Until the first call of `refreshed`, its folded layers have no values.
        folds: Number of batch norms that were folded.
    """

    network: nn.Module

    def __init__(
        self,
        model: nn.Module,
        dtype: torch.dtype = torch.float32,
        input_shape: tuple[int, int, int] | None = None,
    ) -> None:
        shared: dict[int, Any] = {id(buffer): buffer for buffer in model.buffers()}
        shared |= {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in model.parameters()}
        plain = self.network = copy.deepcopy(model, shared).eval()
        self._layers: list[_Layer] = []
        try:
            self._fold(dtype, input_shape)
            if input_shape is None or self._agrees_with(plain, dtype, input_shape):
                return
        except Exception:  # anybody's Python code, run with proxies instead of tensors, may raise anything
            _log.debug("not folded", exc_info=True)
        self.network, self._layers = plain, []

    def _fold(self, dtype: torch.dtype, input_shape: tuple[int, int, int] | None) -> None:
        traced = fx.symbolic_trace(self.network)
        taps = taps_by_layer(self.network, input_shape) if input_shape is not None else {}
        for node, layer, norm in _foldable(traced):
            part = taps.get(str(node.target))
            if norm is None and part is None and dtype == torch.float32:
                continue
            self._layers.append(_Layer.copied(layer, norm, dtype, part))
            traced.set_submodule(str(node.target), self._layers[-1].target)
            if norm is not None:
                (follower,) = node.users
                follower.replace_all_uses_with(node)
                traced.graph.erase_node(follower)
        traced.delete_all_unused_submodules()
        traced.recompile()
        self.network = traced.eval()

    @torch.no_grad()
    def _agrees_with(self, plain: nn.Module, dtype: torch.dtype, input_shape: tuple[int, int, int]) -> bool:
        """Whether the copy computes what the network does: Python code may take other paths when it is traced."""
        weight = next(iter(plain.parameters()), torch.empty(0))
        images = torch.rand(2, *input_shape, generator=torch.Generator().manual_seed(0)).to(weight)
        with torch.autocast(weight.device.type, dtype, enabled=dtype != torch.float32):
            expected, found = plain(images).float(), self.refreshed()(images).float()
        # Also false for NaN.
        return bool((found - expected).abs().max() <= _AGREES[dtype] * expected.abs().max())

    @property
    def folds(self) -> int:
        return sum(layer.norm is not None for layer in self._layers)

    @torch.no_grad()
    def refreshed(self) -> nn.Module:
        """The copy, updated with the network's current weights and batch-norm statistics."""
        for layer in self._layers:
            layer.refresh()
        return self.network


@dataclass(frozen=True)
class _Layer:
    """A layer of the copy that has its own weights, and where they come from."""

    target: nn.Conv2d | nn.Linear
    source: nn.Conv2d | nn.Linear
    norm: nn.BatchNorm2d | None
    taps: Taps | None = None

    @classmethod
    def copied(
        cls, source: nn.Conv2d | nn.Linear, norm: nn.BatchNorm2d | None, dtype: torch.dtype, taps: Taps | None
    ) -> _Layer:
        target = copy.deepcopy(source)
        weight = source.weight if taps is None else taps.of(source.weight)
        target.weight = nn.Parameter(torch.empty_like(weight, dtype=dtype), requires_grad=False)
        if taps is not None and isinstance(target, nn.Conv2d):
            target.kernel_size, target.padding = taps.shape, taps.padding
        if norm is not None or source.bias is not None:
            target.bias = nn.Parameter(target.weight.new_empty(len(target.weight)), requires_grad=False)
        return cls(target, source, norm, taps)

    def refresh(self) -> None:
        weight, bias = self.source.weight, self.source.bias
        if self.taps is not None:
            weight = self.taps.of(weight)
        if self.norm is not None:
            scale, shift = _affine(self.norm)
            weight, bias = weight * scale[:, None, None, None], shift if bias is None else shift + scale * bias
        self.target.weight.copy_(weight)
        if self.target.bias is not None and bias is not None:
            self.target.bias.copy_(bias)


def _foldable(traced: fx.GraphModule) -> list[tuple[fx.Node, nn.Conv2d | nn.Linear, nn.BatchNorm2d | None]]:
    """Calls of convolutions and linear layers, each with the batch norm that is the only reader of its output."""
    modules = dict(traced.named_modules(remove_duplicate=False))
    calls = {node: modules[str(node.target)] for node in traced.graph.nodes if node.op == "call_module"}
    called = list(calls.values())
    # A layer that is called twice may be followed by a different batch norm after each call.
    once = {node: module for node, module in calls.items() if sum(module is other for other in called) == 1}
    found = []
    for node, layer in once.items():
        # Not subclasses, whose forward may be another, as that of a parametrised layer is.
        if type(layer) not in (nn.Conv2d, nn.Linear):
            continue
        norm = once.get(next(iter(node.users))) if len(node.users) == 1 else None
        folds = isinstance(layer, nn.Conv2d) and type(norm) is nn.BatchNorm2d and norm.track_running_stats
        found.append((node, layer, norm if folds else None))
    return found


def _affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Batch norm in eval mode as a scale and an offset per channel."""
    mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    scale = torch.rsqrt(variance + norm.eps)
    scale = scale if norm.weight is None else scale * norm.weight
    return scale, -mean * scale if norm.bias is None else norm.bias - mean * scale
