"""Undoes what layers of timm do to their weights between passes, so that a pass depends on the weights alone."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

import torch
from torch import nn

# timm's layers with standardised weights (Qiao et al., arXiv 1903.10520; Brock et al., arXiv 2101.08692), by name
# because timm may not be installed; those that pad as TensorFlow does keep that.
_STANDARDISED = {"StdConv2d": False, "ScaledStdConv2d": False, "StdConv2dSame": True, "ScaledStdConv2dSame": True}


def plain_(network: nn.Module) -> nn.Module:
    """Replaces convolutions that standardise their weight by ordinary ones with the standardised weight.

    Standardisation would fill pruned weights with the mean of the others: no zero would reach the exported file. The
    function at the start is the same; training then changes the weights themselves.

    Attention that keeps its biases between passes in eval mode computes them anew: weights change between passes of
    the averaged copy and of the copy that is attacked, which stay in eval mode.

    Args:
        network: Changed in place.

    Returns:
        The network.
    """
    for name, layer in list(network.named_modules()):
        if hasattr(layer, "attention_bias_cache"):
            kind: Any = type(layer)
            layer.__class__ = _without_cache(kind)
        if isinstance(layer, nn.Conv2d) and type(layer).__name__ in _STANDARDISED:
            network.set_submodule(name, _plain(layer, same=_STANDARDISED[type(layer).__name__]))
    return network


@cache
def _without_cache(kind: Any) -> type[nn.Module]:
    """The class, whose attention computes its biases in every pass."""

    def biases(self: Any, device: torch.device) -> torch.Tensor:
        found: torch.Tensor = self.attention_biases[:, self.attention_bias_idxs]
        return found.to(device)

    return type(kind.__name__, (kind,), {"get_attention_biases": biases, "__module__": kind.__module__})


def _plain(layer: nn.Conv2d, *, same: bool) -> nn.Conv2d:
    if same:
        kind: type[nn.Conv2d] = import_module("timm.layers").Conv2dSame
    else:
        kind = nn.Conv2d
    form: Any = (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups, layer.bias is not None)
    plain = kind(layer.in_channels, layer.out_channels, *form)
    with torch.no_grad():
        plain.weight.copy_(_standardised(layer))
        if layer.bias is not None and plain.bias is not None:
            plain.bias.copy_(layer.bias)
    return plain


def _standardised(layer: nn.Conv2d) -> torch.Tensor:
    """The weight that a layer computes with: zero mean and unit variance per filter, times gain and scale if it has."""
    epsilon = float(getattr(layer, "eps", 1e-6))
    flat = layer.weight.reshape(len(layer.weight), -1)
    centred = flat - flat.mean(1, keepdim=True)
    weight = centred / (flat.var(1, keepdim=True, unbiased=False) + epsilon).sqrt()
    gain = getattr(layer, "gain", None)
    if gain is not None:
        weight = weight * gain.reshape(-1, 1) * float(getattr(layer, "scale", 1.0))
    return weight.reshape(layer.weight.shape)
