"""Counts in an exported file whether its zeros lie where a pattern requires them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from tscnc_deploy.engines.onnx.file import dense_array
from tscnc_deploy.engines.onnx.structure import input_channel_axis, stored_weights, weight_uses, zero_points


def excess_groups(model: ModelProto, *, n: int = 2, m: int = 4) -> dict[str, int]:
    """For each weight, the number of groups of m input channels with more than n weights that are not zero.

    Args:
        model: A model that `onnx.file` has read.
        n: Number of weights that a group may keep.
        m: Size of a group. A weight whose input channels cannot be split into such groups has no groups.
    """
    found = {}
    for name, occupied in _occupied(model, channels_first=False):
        if occupied.shape[-1] % m == 0:
            kept = occupied.reshape(-1, m).sum(axis=1)
            found[name] = int((kept > n).sum())
    return found


def broken_filters(model: ModelProto) -> dict[str, int]:
    """For each convolution, the number of filters (output channels) of which some weights are zero and others not."""
    found = {}
    for name, occupied in _occupied(model, channels_first=True):
        if occupied.ndim > 2:
            filters = occupied.reshape(len(occupied), -1)
            found[name] = int((filters.any(axis=1) & ~filters.all(axis=1)).sum())
    return found


def _occupied(model: ModelProto, *, channels_first: bool) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Where each weight is not zero: as it is stored, or with the axis of the input channels last."""
    stored = stored_weights(model.graph)
    zeros = zero_points(model.graph, stored)
    seen = set()
    for place, _, name in weight_uses(model.graph):
        if name in seen:
            continue
        seen.add(name)
        values = dense_array(stored[name])
        occupied = values != zeros.get(name, 0)
        axis = min(input_channel_axis(model.graph.node[place]), occupied.ndim - 1)
        yield name, occupied if channels_first else np.moveaxis(occupied, axis, -1)
