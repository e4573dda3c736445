"""Pooling, over windows and over whole images."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from tscnc_deploy.engines.onnx.differentiable.node import (
    Node,
    Operator,
    UnsupportedError,
    floating,
    refuse_outputs,
)
from tscnc_deploy.engines.onnx.differentiable.windows import Windows, interleaved, padded, windows_of

_MAXIMA: dict[int, Callable[..., Tensor]] = {
    1: functional.max_pool1d,
    2: functional.max_pool2d,
    3: functional.max_pool3d,
}
_CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {
    1: functional.conv1d,
    2: functional.conv2d,
    3: functional.conv3d,
}
_MEANS: dict[int, Callable[..., Tensor]] = {2: functional.avg_pool2d, 3: functional.avg_pool3d}


def _windows(node: Node, x: Tensor) -> tuple[Windows, tuple[int, ...]]:
    """The windows, and with ceil_mode what the last ones lack at the end."""
    kernel = list(node.get("kernel_shape"))
    if len(kernel) not in _MAXIMA or x.ndim != len(kernel) + 2:
        msg = f"{node.op} of inputs with {x.ndim} axes"
        raise UnsupportedError(msg)
    windows = windows_of(node, kernel, x.shape[2:])
    ceil = node.get("ceil_mode", 0) and node.get("auto_pad", "NOTSET") in ("NOTSET", "VALID")
    return windows, windows.missing(x.shape[2:]) if ceil else (0,) * len(kernel)


def _max_pool(node: Node, x: Tensor) -> Tensor:
    refuse_outputs(node)
    windows, missing = _windows(node, x)
    end = [amount + more for amount, more in zip(windows.end, missing, strict=True)]
    values = padded(floating(x), interleaved(windows.begin, end), -math.inf)
    return _MAXIMA[len(windows.kernel)](values, windows.kernel, windows.strides, 0, windows.dilations).to(x.dtype)


def _average_pool(node: Node, x: Tensor) -> Tensor:
    windows, missing = _windows(node, x)
    counted = node.get("count_include_pad", 0)
    plain = not any(missing) and set(windows.dilations) == {1} and (counted or not any(windows.padding))
    if plain and len(windows.kernel) in _MEANS:
        return _MEANS[len(windows.kernel)](padded(x, windows.padding), windows.kernel, windows.strides)
    inside = x.new_ones(1, 1, *x.shape[2:])
    # Padding counts or not; what a window lacks beyond it never does.
    inside = padded(inside, windows.padding, 1.0 if counted else 0.0)
    beyond = interleaved([0] * len(missing), missing)
    total = _sums(padded(padded(x, windows.padding), beyond), windows)
    return total / _sums(padded(inside, beyond), windows)


def _lp_pool(node: Node, x: Tensor) -> Tensor:
    windows, missing = _windows(node, x)
    p = node.get("p", 2)
    end = [amount + more for amount, more in zip(windows.end, missing, strict=True)]
    return _root(_sums(padded(x, interleaved(windows.begin, end)).abs() ** p, windows), p)


def _sums(x: Tensor, windows: Windows) -> Tensor:
    """The sum of every window, of each channel alone."""
    flat = x.reshape(-1, 1, *x.shape[2:])
    kernel = x.new_ones(1, 1, *windows.kernel)
    found = _CONVOLUTIONS[len(windows.kernel)](flat, kernel, None, windows.strides, 0, windows.dilations)
    return found.reshape(*x.shape[:2], *found.shape[2:])


def _global_average_pool(_: Node, x: Tensor) -> Tensor:
    return x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)


def _global_max_pool(_: Node, x: Tensor) -> Tensor:
    return torch.amax(x, dim=tuple(range(2, x.ndim)), keepdim=True)


def _global_lp_pool(node: Node, x: Tensor) -> Tensor:
    p = node.get("p", 2)
    return _root((x.abs() ** p).sum(dim=tuple(range(2, x.ndim)), keepdim=True), p)


def _root(x: Tensor, p: int) -> Tensor:
    """The p-th root; at zero, where its slope is infinite, the gradient is zero as that of torch's norms is."""
    zero = x == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, x) ** (1 / p))


OPERATORS: dict[str, Operator] = {
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_average_pool,
    "GlobalLpPool": _global_lp_pool,
    "GlobalMaxPool": _global_max_pool,
    "LpPool": _lp_pool,
    "MaxPool": _max_pool,
}
