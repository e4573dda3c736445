"""Whether an ONNX graph is the same network as another one.

Two graphs are compared from their outputs to their inputs: operators, attributes, wiring and stored constants must be
the same. What does not matter: names, the order of nodes, `Identity`, nodes that the output does not depend on, and
whether a constant is stored dense, sparse or in a `Constant` node.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, ModelProto, NodeProto, SparseTensorProto, TensorProto, helper

from tscnc_deploy.engines.onnx.file import array_of, indices_of
from tscnc_deploy.engines.onnx.fold_norms import fold_norms
from tscnc_deploy.engines.onnx.half import to_half
from tscnc_deploy.engines.onnx.signature import signature_of
from tscnc_deploy.engines.onnx.structure import stored_weights, weight_names
from tscnc_deploy.engines.onnx.unquantised import is_quantised, without_quantisation
from tscnc_deploy.errors import InputError
from tscnc_deploy.text import escaped

Bound = Callable[[NDArray[Any]], NDArray[Any]]
"""Maps the values that a constant should have to the largest absolute error of each."""

# Rounding of constants that another version of the exporter computes, such as 1 / sqrt(64); weights are copied.
_ROUNDING = 1e-6
# Operators that change no value and choose none; exporters use more or fewer. Cast and Gather are none of them,
# because they can turn a pixel into an index.
_MOVING = {"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Constant", "Shape"}
# Operators that different versions of the exporter write for the same mean.
_MEANS = {"GlobalAveragePool": "mean", "ReduceMean": "mean"}
_WINDOW = {"dilations": {1}, "strides": {1}, "pads": {0}}
# Values that lists of attributes have when they are left out, which the operators' schemas do not tell.
_USUAL = dict.fromkeys(("Conv", "MaxPool", "AveragePool", "ConvTranspose"), _WINDOW)
_PLAIN = {getattr(AttributeProto, kind) for kind in ("INT", "INTS", "FLOAT", "FLOATS", "STRING", "STRINGS")}
# Attributes that follow from the weights, or that training alone uses.
_IMPLIED = {("Conv", "kernel_shape"), ("BatchNormalization", "momentum")}


def difference_from_export(exported: ModelProto, found: ModelProto, source: Path) -> str | None:
    """The first difference between a file and the form of an exported graph that it should be.

    - A float32 file must be the same graph with equal constants.
    - A file with float16 constants must be what `half.to_half` makes of the graph.
    - A file in 8 bits must be the graph with folded norms, once pairs of QuantizeLinear and DequantizeLinear are left
      out. Its weights may differ by half a quantisation step; a zero must be a zero. The ranges of activations depend
      on the calibration images; `ranges` compares them with real values.

    Args:
        exported: What `export.export_graph` made of the twin.
        found: The file's model, as `onnx.file` read it.
        source: Path of the file, for messages.

    Returns:
        None if there is none. Names from the file are escaped.
    """
    try:
        expected, compared, bounds = _same_form(exported, found, source)
        return _difference(_Graph(expected, source), _Graph(compared, source), bounds)
    except InputError as error:
        return str(error)


def difference_of_layers(exported: ModelProto, found: ModelProto, source: Path) -> str | None:
    """A weaker comparison, for graphs that different versions of the exporter wrote.

    Convolutions and linear layers must have the same names and weights, every other floating-point constant must occur
    in the exported graph up to rounding, and every operator that computes must occur as often with the same attributes,
    but for those that have their default value. How they are wired is not compared.

    Args and Returns: See `difference_from_export`.
    """
    try:
        expected, compared, bounds = _same_form(exported, found, source)
        one, other = _Graph(expected, source), _Graph(compared, source)
    except InputError as error:
        return str(error)
    wanted, there = set(weight_names(expected.graph)), set(weight_names(compared.graph))
    if wanted != there:
        names = ", ".join(escaped(name) for name in sorted(wanted ^ there)[:3])
        return f"{len(wanted ^ there)} layers occur in only one of the graphs: {names}"
    for name in sorted(wanted):
        if problem := _compare(name, one.constants[name], other.constants[name], bounds.get(name)):
            return problem
    computing, found_computing = one.operators(), other.operators()
    if computing != found_computing:
        more, less = found_computing - computing, computing - found_computing
        return f"it has {_counted(more) or 'no operator'} more and {_counted(less) or 'none'} less than the export"
    known: dict[tuple[int, ...], list[NDArray[Any]]] = {}
    for name in one.used_constants():
        known.setdefault(tuple(one.constants[name].dims), []).append(_dense(one.constants[name]))
    for name in sorted(other.used_constants() - there):
        tensor = other.constants[name]
        # Only what has a shape of the export is expanded.
        alike = known.get(tuple(tensor.dims), [])
        values = _dense(tensor) if alike else None
        if not _is_float(tensor) or any(_close(values, each, bounds.get(name)) for each in alike if values is not None):
            continue
        return f"the constant '{escaped(name)}' {list(tensor.dims)} does not occur in the export"
    return None


def _same_form(
    exported: ModelProto, found: ModelProto, source: Path
) -> tuple[ModelProto, ModelProto, Mapping[str, Bound]]:
    """The exported graph in the precision of the file, the file without quantisation, and how closely they agree."""
    if is_quantised(found):
        largest = max(math.prod(tensor.dims) for tensor in stored_weights(exported.graph).values())
        plain, bounds = without_quantisation(found, largest)
        return fold_norms(exported), plain, bounds
    if any(tensor.data_type == TensorProto.FLOAT16 for tensor in found.graph.initializer):
        return to_half(exported, source), found, {}
    return exported, found, {}


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

    def used(self) -> Iterator[NodeProto]:
        """The nodes that the output depends on, without `Identity`."""
        seen: set[int] = set()
        todo = [self.source(self.signature.output)]
        while todo:
            place, _ = self.producers.get(todo.pop(), (-1, 0))
            if place >= 0 and place not in seen:
                seen.add(place)
                todo += [self.source(name) for name in self.nodes[place].input]
                yield self.nodes[place]

    def used_constants(self) -> set[str]:
        """Names of the constants that the output depends on."""
        return {name for node in self.used() for each in node.input if (name := self.source(each)) in self.constants}

    def operators(self) -> Counter[str]:
        """How often each operator that computes occurs, described with the attributes that have no default value."""
        return Counter(_described(node) for node in self.used() if node.op_type not in _MOVING)


def _difference(one: _Graph, other: _Graph, bounds: Mapping[str, Bound]) -> str | None:
    if one.opsets != other.opsets:
        return f"it is for opset {_listed(other.opsets)}, the export for {_listed(one.opsets)}"
    ours, theirs = one.signature, other.signature
    if (ours.input_shape, ours.classes, ours.batch) != (theirs.input_shape, theirs.classes, theirs.batch):
        return "its images, classes or batch size are not those of the export"
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
            return f"it has {other.described(found)} where the export has {one.described(name)}"
        if kind == "constant":
            if problem := _compare(found, one.constants[name], other.constants[found], bounds.get(found)):
                return problem
        elif kind == "node":
            (place, position), (there, its) = one.producers[name], other.producers[found]
            if position != its or partners.setdefault(place, there) != there or not _alike(one, place, other, there):
                return f"it has {other.described(found)} where the export has {one.described(name)}"
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


def _described(node: NodeProto) -> str:
    """The operator with its attributes, such as "Conv(group=2, strides=[2, 2])"."""
    if node.op_type in _MEANS:
        return _MEANS[node.op_type]
    usual = _USUAL.get(node.op_type, {})
    schema = onnx.defs.get_schema(node.op_type).attributes if onnx.defs.has(node.op_type) else {}
    told = {}
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        if attribute.type not in _PLAIN:
            value = hashlib.sha256(attribute.SerializeToString(deterministic=True)).hexdigest()
        default = schema[attribute.name].default_value if attribute.name in schema else None
        usually = helper.get_attribute_value(default) if default is not None and default.name else None
        alike = value == usually or (isinstance(value, list) and set(value) <= usual.get(attribute.name, set()))
        if not alike and (node.op_type, attribute.name) not in _IMPLIED:
            told[attribute.name] = value
    listed = ", ".join(f"{key}={value}" for key, value in sorted(told.items()))
    return f"{node.op_type}({listed})" if listed else node.op_type


def _compare(
    name: str,
    expected: TensorProto | SparseTensorProto,
    found: TensorProto | SparseTensorProto,
    bound: Bound | None,
) -> str | None:
    where = f"the constant '{escaped(name)}'"
    # Before anything is expanded: a few bytes may describe a large sparse tensor.
    if list(expected.dims) != list(found.dims):
        return f"{where} has the shape {list(found.dims)}, in the export {list(expected.dims)}"
    first, second = _dense(expected), _dense(found)
    if first.dtype != second.dtype:
        return f"{where} is {second.dtype}, in the export {first.dtype}"
    if first.dtype.kind != "f":
        return None if np.array_equal(first, second) else f"{where} has other values than in the export"
    errors = np.abs(second.astype(np.float64) - first)
    wrong = errors > (0 if bound is None else bound(first))
    if not wrong.any():
        return None
    allowed = "" if bound is None else " by more than half a quantisation step"
    return (
        f"{where} differs from the export{allowed} in {int(wrong.sum())} of {wrong.size} values, by up to "
        f"{float(errors[wrong].max()):.3g}"
    )


def _is_float(tensor: TensorProto | SparseTensorProto) -> bool:
    kind = tensor.values.data_type if isinstance(tensor, SparseTensorProto) else tensor.data_type
    return kind in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)


def _close(values: NDArray[Any], known: NDArray[Any], bound: Bound | None) -> bool:
    if values.shape != known.shape or values.dtype != known.dtype:
        return False
    errors = np.abs(values.astype(np.float64) - known)
    return bool((errors <= np.maximum(_ROUNDING * np.abs(known), 0 if bound is None else bound(known))).all())


def _dense(tensor: TensorProto | SparseTensorProto) -> NDArray[Any]:
    if isinstance(tensor, TensorProto):
        return array_of(tensor)
    values = array_of(tensor.values)
    dense = np.zeros(math.prod(tensor.dims), values.dtype)
    dense[indices_of(tensor)] = values
    return dense.reshape(tuple(tensor.dims))


def _listed(opsets: list[int]) -> str:
    return " and ".join(str(version) for version in opsets[:3])


def _counted(operators: Counter[str]) -> str:
    return ", ".join(f"{count} {escaped(name, 200)}" for name, count in sorted(operators.items())[:5])
