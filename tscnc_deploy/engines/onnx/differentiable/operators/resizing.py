"""Resize: along each axis a matrix that the specification of ONNX defines, so that every mode has its gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tscnc_deploy.engines.onnx.differentiable.node import Node, Operator, UnsupportedError, bounded, integers

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Axis:
    """How one axis is resized.

    Attributes:
        number: Of the axis.
        before: Its size.
        after: Its size in the result.
        scale: after / before, up to rounding.
        start: First place of the region to resize, as a share of the axis.
        end: Last place.
    """

    number: int
    before: int
    after: int
    scale: float
    start: float = 0.0
    end: float = 1.0


def _resize(
    node: Node,
    x: Tensor,
    roi: Tensor | None = None,
    scales: Tensor | None = None,
    sizes: Tensor | None = None,
) -> Tensor:
    if node.opset < 11:
        return _interpolated(node, x, _axes(node, x, None, roi, None), "asymmetric", "simple")
    transform = node.get("coordinate_transformation_mode", "half_pixel")
    nearest = node.get("nearest_mode", "round_prefer_floor")
    return _interpolated(node, x, _axes(node, x, roi, scales, sizes), transform, nearest)


def _upsample(node: Node, x: Tensor, scales: Tensor | None = None) -> Tensor:
    given = torch.tensor(node.get("scales")) if scales is None else scales
    return _interpolated(node, x, _axes(node, x, None, given, None), "asymmetric", "simple")


def _axes(node: Node, x: Tensor, roi: Tensor | None, scales: Tensor | None, sizes: Tensor | None) -> list[_Axis]:
    chosen = [axis % x.ndim for axis in node.get("axes") or range(x.ndim)]
    regions = [] if roi is None or not roi.numel() else roi.reshape(-1).tolist()
    if scales is not None and scales.numel():
        factors = [float(value) for value in scales.reshape(-1).tolist()]
        after = [math.floor(x.shape[axis] * factor) for axis, factor in zip(chosen, factors, strict=True)]
        if node.get("coordinate_transformation_mode") == "tf_crop_and_resize" and regions:
            spans = [regions[place + len(chosen)] - regions[place] for place in range(len(chosen))]
            after = [
                math.floor(x.shape[axis] * span * factor)
                for axis, span, factor in zip(chosen, spans, factors, strict=True)
            ]
    else:
        after = integers(sizes)
        factors = [size / x.shape[axis] for axis, size in zip(chosen, after, strict=True)]
        policy = node.get("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            factor = min(factors) if policy == "not_larger" else max(factors)
            factors = [factor] * len(chosen)
            after = [math.floor(factor * x.shape[axis] + 0.5) for axis in chosen]
    found = []
    for place, axis in enumerate(chosen):
        bounds = (regions[place], regions[place + len(chosen)]) if regions else (0.0, 1.0)
        found.append(_Axis(axis, x.shape[axis], after[place], factors[place], *bounds))
    return found


def _interpolated(node: Node, x: Tensor, axes: Sequence[_Axis], transform: str, nearest: str) -> Tensor:
    mode = node.get("mode", "nearest")
    cropped = transform == "tf_crop_and_resize"
    outside = None
    for axis in axes:
        if axis.before == axis.after and axis.scale == 1 and not cropped:
            continue
        bounded(axis.after if mode == "nearest" else axis.after * axis.before)
        places = _places(axis, transform)
        if cropped:
            beyond = torch.from_numpy((places < 0) | (places > axis.before - 1)).to(x.device)
            beyond = beyond.reshape(-1, *[1] * (x.ndim - axis.number - 1))
            outside = beyond if outside is None else outside | beyond
        if mode == "nearest":
            rows = torch.from_numpy(_nearest(places, axis, nearest)).to(x.device)
            x = x.index_select(axis.number, rows)
        else:
            matrix = torch.from_numpy(_weights(node, places, axis, mode)).to(x)
            x = torch.matmul(x.movedim(axis.number, -1), matrix.t()).movedim(-1, axis.number)
    if outside is None:
        return x
    return torch.where(outside, torch.full_like(x, node.get("extrapolation_value", 0.0)), x)


def _places(axis: _Axis, transform: str) -> Floats:
    """Where the elements of the result lie on the axis before."""
    at = np.arange(axis.after, dtype=np.float64)
    before, after = axis.before, axis.after
    centred: Floats = (at + 0.5) / axis.scale - 0.5
    if transform == "half_pixel":
        return centred
    if transform == "half_pixel_symmetric":
        return before / 2 * (1 - after / (before * axis.scale)) + centred
    if transform == "pytorch_half_pixel":
        return centred if after > 1 else np.zeros_like(at)
    if transform == "align_corners":
        return at * (before - 1) / (after - 1) if after > 1 else np.zeros_like(at)
    if transform == "asymmetric":
        return at / axis.scale
    if transform == "tf_crop_and_resize":
        if after > 1:
            step = (axis.end - axis.start) * (before - 1) / (after - 1)
            return axis.start * (before - 1) + at * step
        return np.full_like(at, 0.5 * (axis.start + axis.end) * (before - 1))
    msg = f"Resize with coordinate_transformation_mode {transform!r}"
    raise UnsupportedError(msg)


def _nearest(places: Floats, axis: _Axis, rounding: str) -> NDArray[np.int64]:
    # Runtimes compute places in float32, where halves that are not exact here are.
    places = places.astype(np.float32).astype(np.float64)
    if rounding == "simple":
        rounding = "ceil" if axis.scale < 1 else "floor"
    if rounding == "round_prefer_floor":
        found = np.ceil(places - 0.5)
    elif rounding == "round_prefer_ceil":
        found = np.floor(places + 0.5)
    elif rounding == "floor":
        found = np.floor(places)
    elif rounding == "ceil":
        found = np.ceil(places)
    else:
        msg = f"Resize with nearest_mode {rounding!r}"
        raise UnsupportedError(msg)
    return found.clip(0, axis.before - 1).astype(np.int64)


def _weights(node: Node, places: Floats, axis: _Axis, mode: str) -> Floats:
    """The matrix [after, before] of an interpolation."""
    smooths = bool(node.get("antialias", 0)) and axis.scale < 1
    shrink = axis.scale if smooths else 1.0
    if mode == "linear":
        reach = 1.0
    elif mode == "cubic":
        reach = 2.0
    else:
        msg = f"Resize with mode {mode!r}"
        raise UnsupportedError(msg)
    count = math.ceil(reach / shrink) + 1
    taps = np.floor(places)[:, None] + np.arange(-count, count + 1)
    distances = np.abs(taps - places[:, None]) * shrink
    weights = np.maximum(1 - distances, 0) if mode == "linear" else _cubic(distances, node.get("cubic_coeff_a", -0.75))
    inside = (taps >= 0) & (taps <= axis.before - 1)
    if smooths or node.get("exclude_outside", 0):
        weights = weights * inside
    weights = weights / weights.sum(1, keepdims=True)
    matrix = np.zeros((len(places), axis.before))
    columns = taps.clip(0, axis.before - 1).astype(np.int64)
    np.add.at(matrix, (np.arange(len(places))[:, None], columns), weights)
    return matrix


def _cubic(distances: Floats, a: float) -> Floats:
    """Keys' kernel (IEEE Trans. ASSP 29, 1981)."""
    near = ((a + 2) * distances - (a + 3)) * distances**2 + 1
    far = ((a * distances - 5 * a) * distances + 8 * a) * distances - 4 * a
    return np.where(distances <= 1, near, np.where(distances < 2, far, 0.0))


OPERATORS: dict[str, Operator] = {"Resize": _resize, "Upsample": _upsample}
