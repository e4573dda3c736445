"""Resize: along each axis a matrix that the specification of ONNX defines, so that every mode has its gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tscnc_deploy.engines.onnx.differentiable.node import (
    Node,
    Operator,
    UnsupportedError,
    axis_of,
    floating,
    sizes,
)

# A few numbers are computed for each.
_MOST_TAPS = 1 << 22


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
    wanted: Tensor | None = None,
) -> Tensor:
    if node.opset < 11:
        return _interpolated(node, x, _axes(node, x, None, roi, None), "asymmetric", "simple")
    transform = node.get("coordinate_transformation_mode", "half_pixel")
    nearest = node.get("nearest_mode", "round_prefer_floor")
    return _interpolated(node, x, _axes(node, x, roi, scales, wanted), transform, nearest)


def _upsample(node: Node, x: Tensor, scales: Tensor | None = None) -> Tensor:
    given = torch.tensor(node.get("scales")) if scales is None else scales
    return _interpolated(node, x, _axes(node, x, None, given, None), "asymmetric", "simple")


def _axes(node: Node, x: Tensor, roi: Tensor | None, scales: Tensor | None, wanted: Tensor | None) -> list[_Axis]:
    chosen = [axis_of(axis, x.ndim) for axis in node.get("axes") or range(x.ndim)]
    regions = [] if roi is None or not roi.numel() else roi.reshape(-1).tolist()
    if scales is not None and scales.numel():
        factors = [float(value) for value in scales.reshape(-1).tolist()]
        if not all(0 < factor < math.inf for factor in factors):
            msg = f"the scales {factors} are not positive numbers"
            raise ValueError(msg)
        after = [math.floor(x.shape[axis] * factor) for axis, factor in zip(chosen, factors, strict=True)]
        if node.get("coordinate_transformation_mode") == "tf_crop_and_resize" and regions:
            spans = [regions[place + len(chosen)] - regions[place] for place in range(len(chosen))]
            after = [
                math.floor(x.shape[axis] * span * factor)
                for axis, span, factor in zip(chosen, spans, factors, strict=True)
            ]
    else:
        after = sizes(wanted)
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
    mode, given = node.get("mode", "nearest"), x
    x = x if mode == "nearest" else floating(x)
    cropped = transform == "tf_crop_and_resize"
    outside = None
    for axis in axes:
        # onnxruntime takes an axis that keeps its size as it is, even where it is to be cropped.
        if axis.before == axis.after and axis.scale == 1:
            continue
        places = _places(axis, transform, x.device)
        if cropped:
            beyond = ((places < 0) | (places > axis.before - 1)).reshape(-1, *[1] * (x.ndim - axis.number - 1))
            outside = beyond if outside is None else outside | beyond
        if mode == "nearest":
            x = x.index_select(axis.number, _nearest(places, axis, nearest))
        else:
            matrix = _weights(node, places, axis, mode).to(x.dtype)
            x = torch.matmul(x.movedim(axis.number, -1), matrix.t()).movedim(-1, axis.number)
    if not given.is_floating_point():
        x = x.to(given.dtype)
    if outside is None:
        return x
    return torch.where(outside, torch.full_like(x, node.get("extrapolation_value", 0.0)), x)


def _places(axis: _Axis, transform: str, device: torch.device) -> Tensor:
    """Where the elements of the result lie on the axis before."""
    at = torch.arange(axis.after, dtype=torch.float64, device=device)
    before, after = axis.before, axis.after
    centred = (at + 0.5) / axis.scale - 0.5
    if transform == "half_pixel":
        return centred
    if transform == "half_pixel_symmetric":
        return before / 2 * (1 - after / (before * axis.scale)) + centred
    if transform == "pytorch_half_pixel":
        return centred if after > 1 else torch.zeros_like(at)
    if transform == "align_corners":
        return at * (before - 1) / (after - 1) if after > 1 else torch.zeros_like(at)
    if transform == "asymmetric":
        return at / axis.scale
    if transform == "tf_crop_and_resize":
        if after > 1:
            step = (axis.end - axis.start) * (before - 1) / (after - 1)
            return axis.start * (before - 1) + at * step
        return torch.full_like(at, 0.5 * (axis.start + axis.end) * (before - 1))
    msg = f"Resize with coordinate_transformation_mode {transform!r}"
    raise UnsupportedError(msg)


def _nearest(places: Tensor, axis: _Axis, rounding: str) -> Tensor:
    # Runtimes compute places in float32, where halves that are not exact here are.
    places = places.float().double()
    if rounding == "simple":
        rounding = "ceil" if axis.scale < 1 else "floor"
    if rounding == "round_prefer_floor":
        found = (places - 0.5).ceil()
    elif rounding == "round_prefer_ceil":
        found = (places + 0.5).floor()
    elif rounding == "floor":
        found = places.floor()
    elif rounding == "ceil":
        found = places.ceil()
    else:
        msg = f"Resize with nearest_mode {rounding!r}"
        raise UnsupportedError(msg)
    return found.clamp(0, axis.before - 1).long()


def _weights(node: Node, places: Tensor, axis: _Axis, mode: str) -> Tensor:
    """The matrix [after, before] of an interpolation."""
    smooths = bool(node.get("antialias", 0)) and axis.scale < 1
    shrink = axis.scale if smooths else 1.0
    if mode not in ("linear", "cubic"):
        msg = f"Resize with mode {mode!r}"
        raise UnsupportedError(msg)
    count = math.ceil((1 if mode == "linear" else 2) / shrink) + 1
    if len(places) * (2 * count + 1) > _MOST_TAPS:
        msg = f"an interpolation of {len(places)} elements from {2 * count + 1} each"
        raise UnsupportedError(msg)
    taps = places.floor()[:, None] + torch.arange(-count, count + 1, device=places.device)
    distances = (taps - places[:, None]).abs() * shrink
    weights = (1 - distances).clamp(min=0) if mode == "linear" else _cubic(distances, node.get("cubic_coeff_a", -0.75))
    if node.get("exclude_outside", 0):
        weights = weights * ((taps >= 0) & (taps <= axis.before - 1))
    weights = weights / weights.sum(1, keepdim=True)
    matrix = weights.new_zeros(len(places), axis.before)
    return matrix.scatter_add(1, taps.clamp(0, axis.before - 1).long(), weights)


def _cubic(distances: Tensor, a: float) -> Tensor:
    """Keys' kernel (IEEE Trans. ASSP 29, 1981)."""
    near = ((a + 2) * distances - (a + 3)) * distances**2 + 1
    far = ((a * distances - 5 * a) * distances + 8 * a) * distances - 4 * a
    return torch.where(distances <= 1, near, torch.where(distances < 2, far, 0.0))


OPERATORS: dict[str, Operator] = {"Resize": _resize, "Upsample": _upsample}
