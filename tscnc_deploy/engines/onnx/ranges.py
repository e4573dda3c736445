"""Whether the activations of an 8-bit file have the ranges that a calibration finds.

The comparison with the twin leaves pairs of QuantizeLinear and DequantizeLinear out, and a pair can do
anything to the values between: with a large scale it makes them all zero, with a small one it clips them. So the
network is run without the pairs on real images, and every pair's range is compared with the values that it meets.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto

from tscnc_deploy.engines.base import Array
from tscnc_deploy.engines.onnx.file import array_of
from tscnc_deploy.engines.onnx.session import CPU, open_session
from tscnc_deploy.engines.onnx.unquantised import without_quantisation
from tscnc_deploy.text import escaped

WIDEST = 4.0
"""Largest range relative to the values: calibration images have outliers that others lack; a wider one loses steps."""
MOST_CLIPPED = 0.01
"""Largest share of a tensor's values outside of its range; a calibration by the smallest and largest value has few."""

_RANGES = {np.dtype(np.uint8): (0, 255), np.dtype(np.int8): (-128, 127)}
_BATCH = 32


def range_problem(model: ModelProto, images: Array, largest: int, source: Path) -> str | None:
    """The first pair whose range does not fit the values of real images.

    Args:
        model: A file in 8 bits that was found to be a network's export, see `equivalence`.
        images: float32 [N, C, H, W] in [0, 1], at least one; clean ones.
        largest: See `without_quantisation`.
        source: Path of the file, for messages.

    Returns:
        What is wrong; None if every range fits.

    Raises:
        InputError: onnxruntime refuses the network without quantisation.
    """
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    pairs = [node for node in model.graph.node if node.op_type == "QuantizeLinear" and node.input[0] not in stored]
    plain, _ = without_quantisation(model, largest)
    names = list(dict.fromkeys(node.input[0] for node in pairs))
    if not names:
        return None
    del plain.graph.output[:]
    plain.graph.output.extend(ValueInfoProto(name=name) for name in names)
    session = open_session(plain.SerializeToString(), source, CPU, None)
    (taken,) = session.get_inputs()
    fixed = taken.shape[0] if isinstance(taken.shape[0], int) else None
    step = fixed or _BATCH
    values: dict[str, list[Array]] = {name: [] for name in names}
    for place in range(0, len(images), step):
        part = images[place : place + step]
        given = np.resize(part, (fixed, *part.shape[1:])) if fixed else part
        for name, array in zip(names, session.run(names, {taken.name: given}), strict=True):
            # Attention moves the images to other axes than the first.
            values[name].append(array.reshape(-1))
    for node in pairs:
        problem = _problem(node, np.concatenate(values[node.input[0]]), stored)
        if problem is not None:
            return f"{escaped(node.name or node.output[0])!r} {problem}"
    return None


def _problem(node: NodeProto, values: Array, stored: dict[str, TensorProto]) -> str | None:
    constants = [array_of(stored[name]) for name in node.input[1:] if name in stored]
    if len(constants) != 2 or constants[1].dtype not in _RANGES or constants[0].size != 1:
        return "has no constant range of 8 bits"
    scale, zero = float(constants[0].reshape(())), float(constants[1].reshape(()))
    low, high = ((bound - zero) * scale for bound in _RANGES[constants[1].dtype])
    reach, met = max(abs(low), abs(high)), float(np.abs(values).max(initial=0))
    if reach > WIDEST * met:
        return f"has the range [{low:.3g}, {high:.3g}], but its values are at most {met:.3g}, so that steps are lost"
    clipped = float(((values < low - scale) | (values > high + scale)).mean())
    if clipped > MOST_CLIPPED:
        return f"has the range [{low:.3g}, {high:.3g}], which clips {clipped:.1%} of its values on clean images"
    return None
