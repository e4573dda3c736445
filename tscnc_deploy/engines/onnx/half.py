"""The half-precision form of an ONNX file: the same network, computed in float16 between its first and last layer.

TensorRT 11 no longer has a precision flag: it computes every operator in the types that the graph declares, so the
types are written into the graph. Images and logits stay float32. So do the normalisation and the first layer, because a
float16 pixel in [0.5, 1) is rounded to steps of 1/2048, a sixteenth of the usual budget of an attack on 8-bit images,
and the last layer, because its rounding would directly change the logits.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper, shape_inference

from tscnc_deploy.engines.onnx.file import array_of, read_onnx, write_onnx
from tscnc_deploy.engines.onnx.runtime import OnnxRuntimeEngine
from tscnc_deploy.engines.onnx.structure import weighted_nodes
from tscnc_deploy.errors import InputError

_LARGEST = float(np.finfo(np.float16).max)
# Operators with inputs that may stay float32 in ONNX when the first input is float16. A running variance would
# underflow or overflow in float16.
_KEEPS_FLOAT = {"BatchNormalization": {1, 2, 3, 4}}
# Relative to the logits: far above float16 rounding (2^-11 per layer) and far below the error of a wrong graph.
_WRONG = 0.1


def write_half(dense_path: str | Path, half_path: str | Path) -> None:
    """Writes the half-precision form of a dense float32 ONNX file.

    Weights keep their names; a weight below 2^-25 becomes a zero. Batch norms keep their float32 parameters.

    Args:
        dense_path: File with one float32 input and one float32 output.
        half_path: The file to write.

    Raises:
        InputError: The file is refused, see `onnx.file.read_onnx`; it has fewer than three layers with weights, so
            that none would use half precision; a value exceeds 65504; or the logits of the half-precision file are
            not finite or far from those of the dense file.
        StorageError: The file cannot be written.
    """
    write_onnx(to_half(read_onnx(dense_path), dense_path), half_path)
    try:
        _compare(Path(dense_path), Path(half_path))
    except InputError:
        Path(half_path).unlink()
        raise


def to_half(model: ModelProto, source: str | Path) -> ModelProto:
    """The half-precision form of a model that `onnx.file` has read; the model is not changed.

    Raises:
        InputError: See `write_half`; the message starts with `source`.
    """
    layers = sorted(weighted_nodes(model.graph))
    if len(layers) < 3:
        msg = f"{source}: {len(layers)} layers with weights; the first and last stay fp32, so fp16 needs at least 3"
        raise InputError(msg)
    result = ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    floats = _values_of_type(model, TensorProto.FLOAT)
    first, last = layers[0], layers[-1]
    half_nodes = set(range(first + 1, last))
    half_values = {name for position in half_nodes for name in graph.node[position].output if name in floats}
    rewriter = _Rewriter(result, floats, half_values, source)
    nodes = []
    for position, node in enumerate(graph.node):
        casts = rewriter.retype(node, in_half=position in half_nodes)
        nodes += [*casts, NodeProto.FromString(node.SerializeToString())]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    rewriter.drop_unused()
    return result


class _Rewriter:
    """Casts the inputs of each node to the type that the node computes in."""

    def __init__(self, model: ModelProto, floats: set[str], half_values: set[str], source: str | Path) -> None:
        self._graph = model.graph
        self._floats = floats
        self._half_values = half_values
        self._source = source
        self._stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self._halved: dict[str, str] = {}
        self._cast: dict[tuple[str, bool], str] = {}
        self._names = {*self._stored, *floats}

    def retype(self, node: NodeProto, *, in_half: bool) -> list[NodeProto]:
        """Changes the node's inputs and returns the casts to insert before it."""
        casts = []
        for position, name in enumerate(node.input):
            if position in _KEEPS_FLOAT.get(node.op_type, ()):
                continue
            if name in self._stored:
                if in_half and self._stored[name].data_type == TensorProto.FLOAT:
                    node.input[position] = self._half_of(name)
            elif name in self._floats and (name in self._half_values) != in_half:
                if (name, in_half) not in self._cast:
                    target = self._fresh(f"{name}_{'half' if in_half else 'float'}")
                    self._cast[name, in_half] = target
                    to = TensorProto.FLOAT16 if in_half else TensorProto.FLOAT
                    casts.append(helper.make_node("Cast", [name], [target], name=f"cast_{target}", to=to))
                node.input[position] = self._cast[name, in_half]
        return casts

    def drop_unused(self) -> None:
        """Removes stored tensors of which only the float16 copy is used, and gives the copy their name."""
        used = {name for node in self._graph.node for name in node.input}
        renamed = {half: name for name, half in self._halved.items() if name not in used}
        for node in self._graph.node:
            for position, name in enumerate(node.input):
                node.input[position] = renamed.get(name, name)
        kept = [tensor for tensor in self._graph.initializer if tensor.name in used]
        for tensor in kept:
            tensor.name = renamed.get(tensor.name, tensor.name)
        # A copy, because deleting the field would also clear the messages that are kept.
        kept = [TensorProto.FromString(tensor.SerializeToString()) for tensor in kept]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)

    def _half_of(self, name: str) -> str:
        if name not in self._halved:
            values = array_of(self._stored[name])
            if values.size and float(np.abs(values).max()) > _LARGEST:
                msg = f"{self._source}: {name!r} contains {np.abs(values).max():g}; the largest float16 is {_LARGEST:g}"
                raise InputError(msg)
            self._halved[name] = self._fresh(f"{name}_half")
            # Adding zero turns the negative zeros that rounding produces into zeros.
            half = values.astype(np.float16) + np.float16(0)
            self._graph.initializer.append(numpy_helper.from_array(half, self._halved[name]))
        return self._halved[name]

    def _fresh(self, name: str) -> str:
        while name in self._names:
            name += "_"
        self._names.add(name)
        return name


def _values_of_type(model: ModelProto, kind: int) -> set[str]:
    """Names of the values of one type between nodes, including inputs and outputs of the graph."""
    inferred = shape_inference.infer_shapes(model).graph
    values: tuple[ValueInfoProto, ...] = (*inferred.value_info, *inferred.input, *inferred.output)
    return {value.name for value in values if value.type.tensor_type.elem_type == kind}


def _compare(dense_path: Path, half_path: Path) -> None:
    dense = OnnxRuntimeEngine(dense_path)
    with tempfile.TemporaryDirectory() as folder:
        write_onnx(emulate_half(read_onnx(half_path)), Path(folder) / half_path.name)
        half = OnnxRuntimeEngine(Path(folder) / half_path.name)
    images = np.random.default_rng(0).random((2, *dense.spec.input_shape), np.float32)
    expected = dense.logits(images)
    difference = float(np.abs(half.logits(images) - expected).max())
    if not difference <= _WRONG * max(1.0, float(np.abs(expected).max())):
        msg = f"{half_path}: its logits differ by {difference:g} from those of {dense_path}, too much for fp16"
        raise InputError(msg)


def emulate_half(model: ModelProto) -> ModelProto:
    """Converts a half-precision model to float32 with rounding to float16 after every operator, as on a GPU.

    For use on a CPU, where onnxruntime has few float16 kernels and would compute sequences of operators in float32
    without the intermediate rounding (and overflow).
    """
    result = ModelProto()
    result.CopyFrom(model)
    halves = _values_of_type(model, TensorProto.FLOAT16)
    nodes = []
    for node in result.graph.node:
        if node.op_type == "Cast" and node.output[0] in halves:
            node.op_type = "Identity"
            del node.attribute[:]
        rounded = [(position, name) for position, name in enumerate(node.output) if name in halves]
        for position, name in rounded:
            node.output[position] = f"{name}_exact"
        nodes.append(node)
        for _, name in rounded:
            nodes.append(helper.make_node("Cast", [f"{name}_exact"], [f"{name}_short"], to=TensorProto.FLOAT16))
            nodes.append(helper.make_node("Cast", [f"{name}_short"], [name], to=TensorProto.FLOAT))
    kept = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del result.graph.node[:]
    result.graph.node.extend(kept)
    del result.graph.value_info[:]
    for tensor in result.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            tensor.CopyFrom(numpy_helper.from_array(array_of(tensor).astype(np.float32), tensor.name))
    return result
