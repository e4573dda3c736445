"""Whether an ONNX graph is the same network as another one.

Two graphs are compared from their outputs to their inputs: operators, attributes, wiring and stored constants must be
the same. What does not matter: names, the order of nodes, `Identity`, nodes that the output does not depend on, and
whether a constant is stored dense, sparse or in a `Constant` node.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, ModelProto, NodeProto, SparseTensorProto, TensorProto

from tscnc_deploy.engines.onnx.file import dense_array
from tscnc_deploy.engines.onnx.fold_norms import fold_norms
from tscnc_deploy.engines.onnx.half import to_half
from tscnc_deploy.engines.onnx.signature import signature_of
from tscnc_deploy.engines.onnx.structure import stored_weights
from tscnc_deploy.engines.onnx.unquantised import is_quantised, without_quantisation
from tscnc_deploy.errors import InputError
from tscnc_deploy.text import escaped

Bound = Callable[[NDArray[Any]], NDArray[Any]]
"""Maps the values that a constant should have to the largest absolute error of each."""


def difference_from_twin(twin: ModelProto, found: ModelProto, source: Path) -> str | None:
    """The first difference between a file and the form of its twin's graph that it should be.

    - A float32 file must be the same graph with equal constants.
    - A file with float16 constants must be what `half.to_half` makes of the graph.
    - A file in 8 bits must be the graph with folded norms, once pairs of QuantizeLinear and DequantizeLinear are left
      out. Its weights may differ by half a quantisation step; a zero must be a zero. The ranges of activations depend
      on the calibration images; `ranges` compares them with real values.

    Args:
        twin: The twin's graph, in float32, as `onnx.file` read it.
        found: The file's model, as `onnx.file` read it.
        source: Path of the file, for messages.

    Returns:
        None if there is none. Names from the file are escaped.
    """
    try:
        expected, compared, bounds = _same_form(twin, found, source)
        return _difference(_Graph(expected, source), _Graph(compared, source), bounds)
    except InputError as error:
        return str(error)


def _same_form(twin: ModelProto, found: ModelProto, source: Path) -> tuple[ModelProto, ModelProto, Mapping[str, Bound]]:
    """The twin's graph in the precision of the file, the file without quantisation, and how closely they agree."""
    if is_quantised(found):
        largest = max(math.prod(tensor.dims) for tensor in stored_weights(twin.graph).values())
        plain, bounds = without_quantisation(found, largest)
        return fold_norms(twin), plain, bounds
    if any(tensor.data_type == TensorProto.FLOAT16 for tensor in found.graph.initializer):
        return to_half(twin, source), found, {}
    return twin, found, {}


class _Graph:
    """What computes each value of a graph.

    Raises:
        InputError: A value is computed or stored twice, or the graph has other inputs or outputs than a classifier's.
    """

    def __init__(self, model: ModelProto, source: Path) -> None:
        self.nodes = model.graph.node
        self.constants = stored_weights(model.graph)
        self.signature = signature_of(model, source)
        self.opsets = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
        self.producers: dict[str, tuple[int, int]] = {}
        self._sources: dict[str, str] = {}
        stored = {tensor.name for tensor in model.graph.initializer}
        stored |= {tensor.values.name for tensor in model.graph.sparse_initializer}
        taken = {self.signature.input} | stored
        for place, node in enumerate(self.nodes):
            for position, name in enumerate(node.output):
                if name and name in taken:
                    msg = f"{source}: the value '{escaped(name)}' is defined twice"
                    raise InputError(msg)
                taken.add(name)
                if name not in self.constants:
                    self.producers[name] = (place, position)

    def source(self, name: str) -> str:
        """The value that a name stands for, behind any number of `Identity`."""
        passed: list[str] = []
        while name not in self._sources and len(passed) <= len(self.nodes):
            node = self.nodes[self.producers[name][0]] if name in self.producers else None
            passed.append(name)
            if node is None or node.op_type != "Identity" or len(node.input) != 1:
                break
            name = node.input[0]
        name = self._sources.get(name, name)
        self._sources.update(dict.fromkeys(passed, name))
        return name

    def kind(self, name: str) -> str:
        """What the value is: "input", "constant", "node", "nothing" (an input that is left out) or "undefined"."""
        if not name:
            return "nothing"
        if name in self.constants:
            return "constant"
        if name in self.producers:
            return "node"
        return "input" if name == self.signature.input else "undefined"

    def described(self, name: str) -> str:
        """The value for a message."""
        match self.kind(name):
            case "node":
                node = self.nodes[self.producers[name][0]]
                return f"{escaped(node.op_type)} '{escaped(node.name or name)}'"
            case "constant":
                return f"the constant '{escaped(name)}'"
            case "input":
                return "the images"
            case "nothing":
                return "no input"
        return f"the undefined value '{escaped(name)}'"


def _difference(one: _Graph, other: _Graph, bounds: Mapping[str, Bound]) -> str | None:
    if one.opsets != other.opsets:
        return f"it is for opset {_listed(other.opsets)}, its twin for {_listed(one.opsets)}"
    ours, theirs = one.signature, other.signature
    if (ours.input_shape, ours.classes, ours.batch) != (theirs.input_shape, theirs.classes, theirs.batch):
        return "its images, classes or batch size are not those of its twin"
    partners: dict[int, int] = {}
    seen: set[tuple[str, str]] = set()
    todo = [(ours.output, theirs.output)]
    while todo:
        name, found = todo.pop()
        name, found = one.source(name), other.source(found)
        if (name, found) in seen:
            continue
        seen.add((name, found))
        kind = one.kind(name)
        if kind != other.kind(found) or kind == "undefined":
            return f"it has {other.described(found)} where its twin has {one.described(name)}"
        if kind == "constant":
            if problem := _compare(found, one.constants[name], other.constants[found], bounds.get(found)):
                return problem
        elif kind == "node":
            (place, position), (there, its) = one.producers[name], other.producers[found]
            if position != its or partners.setdefault(place, there) != there or not _alike(one, place, other, there):
                return f"it has {other.described(found)} where its twin has {one.described(name)}"
            inputs = [_inputs(graph.nodes[at]) for graph, at in ((one, place), (other, there))]
            todo += zip(*inputs, strict=True)
    return None


def _alike(one: _Graph, place: int, other: _Graph, there: int) -> bool:
    """Whether two nodes are the same operator with the same attributes and number of inputs."""
    first, second = one.nodes[place], other.nodes[there]
    same = first.op_type == second.op_type and first.domain in ("", "ai.onnx") and second.domain in ("", "ai.onnx")
    return same and len(_inputs(first)) == len(_inputs(second)) and _attributes(first) == _attributes(second)


def _inputs(node: NodeProto) -> list[str]:
    names = list(node.input)
    while names and not names[-1]:
        names.pop()
    return names


def _attributes(node: NodeProto) -> list[bytes]:
    plain = []
    for attribute in node.attribute:
        copied = AttributeProto()
        copied.CopyFrom(attribute)
        copied.ClearField("doc_string")
        plain.append(copied.SerializeToString(deterministic=True))
    return sorted(plain)


def _compare(
    name: str,
    expected: TensorProto | SparseTensorProto,
    found: TensorProto | SparseTensorProto,
    bound: Bound | None,
) -> str | None:
    where = f"the constant '{escaped(name)}'"
    # Before anything is expanded: a few bytes may describe a large sparse tensor.
    if list(expected.dims) != list(found.dims):
        return f"{where} has the shape {list(found.dims)}, in its twin {list(expected.dims)}"
    first, second = dense_array(expected), dense_array(found)
    if first.dtype != second.dtype:
        return f"{where} is {second.dtype}, in its twin {first.dtype}"
    if first.dtype.kind != "f":
        return None if np.array_equal(first, second) else f"{where} has other values than in its twin"
    errors = np.abs(second.astype(np.float64) - first)
    wrong = errors > (0 if bound is None else bound(first))
    if not wrong.any():
        return None
    allowed = "" if bound is None else " by more than half a quantisation step"
    return (
        f"{where} differs from its twin{allowed} in {int(wrong.sum())} of {wrong.size} values, by up to "
        f"{float(errors[wrong].max()):.3g}"
    )


def _listed(opsets: list[int]) -> str:
    return " and ".join(str(version) for version in opsets[:3])
