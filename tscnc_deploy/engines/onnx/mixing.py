"""The axes along which an ONNX operator computes one element of its result from several elements of an operand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from onnx import NodeProto

from tscnc_deploy.engines.onnx.flow import attributes_of

Constants = Callable[[str], list[int] | None]
"""The integers that a name stands for; None if they are not constants."""
Ranks = Callable[[str], int | None]

_CONVOLUTIONS = {"Conv", "ConvInteger", "ConvTranspose", "DeformConv", "QLinearConv"}
_POOLS = {
    *("AveragePool", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "InstanceNormalization", "LpPool"),
    *("MaxPool", "MaxUnpool"),
}
# Of each image, or of each region of one, but over channels too.
_ALL_BUT_FIRST = {
    *("CausalConvWithState", "Col2Im", "DepthToSpace", "GroupNormalization", "GridSample", "LinearAttention", "LRN"),
    *("SpaceToDepth", "STFT"),
}
_EVERY = {
    *("Compress", "EyeLike", "MaxRoiPool", "NegativeLogLikelihoodLoss", "NonMaxSuppression", "NonZero", "RoiAlign"),
    *("SequenceConstruct", "SequenceInsert", "SequenceMap", "SoftmaxCrossEntropyLoss", "SplitToSequence"),
    "TensorScatter",
}
# The axis, and the default where the attribute is absent.
_ONE_AXIS = {
    "ArgMax": 0,
    "ArgMin": 0,
    "Concat": 0,
    "Gather": 0,
    "GatherElements": 0,
    "LpNormalization": -1,
    "Scatter": 0,
    "ScatterElements": 0,
    "Split": 0,
    "TopK": -1,
}
_SOFTMAX = ("Hardmax", "LogSoftmax", "Softmax")
_TO_THE_END = ("LayerNormalization", "RMSNormalization")
_RECURRENT = ("GRU", "LSTM", "RNN")


def mixed_axes(node: NodeProto, opset: int, rank: Ranks, constants: Constants) -> Iterator[tuple[int, set[int]]]:
    """For each operand, the axes that the operator mixes.

    Of the operators of ONNX 1.23, those that are missing here, such as elementwise ones, mix none. That sizes change
    along an axis is not seen here either.

    Args:
        node: The node.
        opset: Version of the ONNX operators.
        rank: Number of axes of a value; None if unknown.
        constants: The values of constants.

    Yields:
        The operand's position and the axes, counted from 0; all if a constant that would name them is computed.
    """
    attributes = attributes_of(node)
    if node.op_type == "Einsum":
        yield from _contracted(node, attributes, rank)
        return
    for place, axes in _axes(node, attributes, opset, rank, constants):
        size = rank(node.input[place]) if place < len(node.input) else None
        if size is not None:
            yield place, {axis + size if axis < 0 else axis for axis in axes if -size <= axis < size}


def _axes(
    node: NodeProto, attributes: Mapping[str, Any], opset: int, rank: Ranks, constants: Constants
) -> Iterator[tuple[int, Iterable[int]]]:
    op = node.op_type
    many = rank(node.input[0]) if node.input else None
    every = range(many or 0)
    axis = attributes.get("axis", _ONE_AXIS.get(op))
    if op.startswith("Reduce"):
        yield 0, _reduced(node, attributes, every, constants)
    elif op in _ONE_AXIS and isinstance(axis, int):
        joined = range(len(node.input)) if op == "Concat" else (0,)
        yield from ((place, (axis,)) for place in joined)
    elif op in _SOFTMAX:
        first = attributes.get("axis", -1 if opset >= 13 else 1)
        yield 0, (first,) if opset >= 13 else _from(first, every)
    elif op in _TO_THE_END:
        yield 0, _from(attributes.get("axis", -1), every)
    elif op in _CONVOLUTIONS or op in _ALL_BUT_FIRST:
        yield 0, every[1:]
    elif op in _POOLS:
        yield 0, every[2:]
    elif op in _EVERY:
        yield 0, every
    elif op in ("Det", "Trilu"):
        yield 0, (-2, -1)
    elif op == "DFT":
        given = len(node.input) > 2 and node.input[2]
        yield 0, _constants(node, 2, constants, every) if given else (-2 if opset >= 20 else attributes.get("axis", 1),)
    elif op == "CenterCropPad":
        yield 0, attributes.get("axes", every)
    elif op == "Attention":
        yield from ((place, every[1:]) for place in range(3))
    elif op in ("MatMul", "MatMulInteger", "QLinearMatMul"):
        second = 3 if op == "QLinearMatMul" else 1
        yield 0, (-1,)
        yield second, (-2 if len(node.input) > second and (rank(node.input[second]) or 0) > 1 else -1,)
    elif op == "Gemm":
        yield 0, (0 if attributes.get("transA") else 1,)
        yield 1, (1 if attributes.get("transB") else 0,)
    elif op == "MeanVarianceNormalization":
        yield 0, attributes.get("axes", (0, 2, 3))
    elif op == "Unique":
        yield 0, every if axis is None else (axis,)
    elif op in ("CumProd", "CumSum"):
        yield 0, _constants(node, 1, constants, every)
    elif op in ("GatherND", "ScatterND"):
        yield 0, every[attributes.get("batch_dims", 0) :]
    elif op == "ReverseSequence":
        yield 0, (attributes.get("time_axis", 0),)
    elif op in _RECURRENT:
        yield 0, (1, 2) if attributes.get("layout") else (0, 2)
    elif op == "Pad":
        yield 0, _padded(node, attributes, every, constants)
    elif op == "Tile":
        repeats = _constants(node, 1, constants, every)
        yield 0, [place for place, repeat in enumerate(repeats) if repeat != 1]
    elif op == "Slice":
        yield 0, _sliced(node, attributes, every, constants)


def _from(first: int, every: range) -> range:
    return every[first:] if first else every


def _constants(node: NodeProto, place: int, constants: Constants, every: range) -> Iterable[int]:
    found = constants(node.input[place]) if place < len(node.input) and node.input[place] else None
    return every if found is None else found


def _reduced(node: NodeProto, attributes: Mapping[str, Any], every: range, constants: Constants) -> Iterable[int]:
    if "axes" in attributes:
        return list(attributes["axes"]) or every
    if len(node.input) < 2 or not node.input[1]:
        return () if attributes.get("noop_with_empty_axes") else every
    axes = constants(node.input[1])
    if axes == [] and attributes.get("noop_with_empty_axes"):
        return ()
    return axes or every


def _padded(node: NodeProto, attributes: Mapping[str, Any], every: range, constants: Constants) -> Iterable[int]:
    pads = attributes.get("pads") or (constants(node.input[1]) if len(node.input) > 1 else None)
    named = constants(node.input[3]) if len(node.input) > 3 and node.input[3] else None
    axes = list(every) if named is None else named
    if pads is None or len(pads) != 2 * len(axes):
        return every
    return [axis for place, axis in enumerate(axes) if pads[place] or pads[place + len(axes)]]


def _sliced(node: NodeProto, attributes: Mapping[str, Any], every: range, constants: Constants) -> Iterable[int]:
    """The axes of which not everything is taken, as far as the constants show."""

    def given(place: int, name: str) -> list[int] | None:
        if name in attributes:
            return list(attributes[name])
        return constants(node.input[place]) if place < len(node.input) and node.input[place] else None

    starts, ends, axes = given(1, "starts"), given(2, "ends"), given(3, "axes")
    absent = (len(node.input) < 4 or not node.input[3]) and "axes" not in attributes
    if axes is None:
        if not absent:
            return every
        axes = list(every)
    steps = given(4, "steps") if len(node.input) > 4 else [1] * len(axes)
    taken = []
    for place, axis in enumerate(axes):
        start = starts[place] if starts and place < len(starts) else None
        end = ends[place] if ends and place < len(ends) else None
        step = steps[place] if steps and place < len(steps) else None
        if start != 0 or step != 1 or end is None or end < (1 << 31) - 1:
            taken.append(axis)
    if absent:
        taken = [axis for axis in taken if starts is None or axis < len(starts)]
    return taken


def _contracted(node: NodeProto, attributes: Mapping[str, Any], rank: Ranks) -> Iterator[tuple[int, set[int]]]:
    """The axes whose letters are missing in the result; axes under an ellipsis are kept."""
    equation = attributes.get("equation", b"")
    text = (equation.decode() if isinstance(equation, bytes) else str(equation)).replace(" ", "")
    inputs, arrow, output = text.partition("->")
    terms = inputs.split(",")
    kept = set(output)
    if not arrow:
        letters = [letter for letter in inputs if letter.isalpha()]
        kept = {letter for letter in letters if letters.count(letter) == 1}
    for place, term in enumerate(terms[: len(node.input)]):
        size = rank(node.input[place])
        if size is None:
            continue
        before, dots, after = term.partition("...")
        axes = list(enumerate(before))
        if dots:
            axes += [(size - len(after) + offset, letter) for offset, letter in enumerate(after)]
        yield place, {axis for axis, letter in axes if letter not in kept}
