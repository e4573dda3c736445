"""Reads and writes ONNX files without trusting them.

A file is checked before anything in it is used: sizes are computed from the declared dimensions in Python's unbounded
integers and compared with the stored data, so no number in a file can make this package allocate more than the file
contains. Sparse initializers are the exception by design; `MAX_ELEMENTS` bounds them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto, numpy_helper

from tscnc_deploy.engines.onnx.external import read_external
from tscnc_deploy.engines.onnx.limits import MAX_BYTES, MAX_ELEMENTS
from tscnc_deploy.errors import InputError
from tscnc_deploy.files import read_file, write_atomic

_MAX_NODES = 20_000
CONTRIB = "com.microsoft"
"""Domain of onnxruntime's own operators, which its optimiser and its quantiser write."""

# Bytes per element in raw_data, and the typed field that holds the same elements otherwise.
_STORAGE: dict[int, tuple[int, str]] = {
    TensorProto.FLOAT: (4, "float_data"),
    TensorProto.DOUBLE: (8, "double_data"),
    TensorProto.FLOAT16: (2, "int32_data"),
    TensorProto.BFLOAT16: (2, "int32_data"),
    TensorProto.INT64: (8, "int64_data"),
    TensorProto.INT32: (4, "int32_data"),
    TensorProto.INT8: (1, "int32_data"),
    TensorProto.UINT8: (1, "int32_data"),
    TensorProto.BOOL: (1, "int32_data"),
}
_FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}
_MAX_RANK = 8
# Elements that sparse weights may expand to in any case, and per stored value: runtimes expand them.
_FREE_ELEMENTS = 1 << 26
_EXPANSION = 1000
# The field of an attribute that holds its value, by its type; the other types are refused.
_FIELDS = {
    AttributeProto.FLOAT: "f",
    AttributeProto.INT: "i",
    AttributeProto.STRING: "s",
    AttributeProto.TENSOR: "t",
    AttributeProto.FLOATS: "floats",
    AttributeProto.INTS: "ints",
    AttributeProto.STRINGS: "strings",
    AttributeProto.TENSORS: "tensors",
    # Refused below, with a message of their own.
    AttributeProto.GRAPH: "g",
    AttributeProto.GRAPHS: "graphs",
    AttributeProto.SPARSE_TENSOR: "sparse_tensor",
    AttributeProto.SPARSE_TENSORS: "sparse_tensors",
}
# Attributes that kernels divide by, and attributes in which exporters write the largest integer for "to the end".
_POSITIVE = {"group", "strides", "dilations", "kernel_shape"}
_UNBOUNDED = {"starts", "ends", "value_int", "value_ints"}


class _RefusedError(Exception):
    """Why a file is refused; `parse_onnx` adds the file name."""


def read_bytes(path: str | Path) -> bytes:
    """Reads the content of a file that may be an ONNX file.

    Raises:
        InputError: It is missing, unreadable, not a regular file, or larger than `MAX_BYTES`.
    """
    return read_file(Path(path), MAX_BYTES)


def parse_onnx(data: bytes, source: str | Path, *, third_party: bool = False, contrib: bool = False) -> ModelProto:
    """Parses the bytes of an ONNX file and checks the structure of the model, but not its operators.

    Args:
        data: Content of the file.
        source: Name of the file, for messages.
        third_party: Whether tensors may be stored in files beside it, which are then read, see `onnx.external`.
        contrib: Whether onnxruntime's own operators (com.microsoft) are accepted.

    Raises:
        InputError: The bytes are not an ONNX model (or a truncated one), or the model has external data, subgraphs,
            functions, more than 20,000 nodes, operators outside the ONNX standard, tensors whose data do not match
            their dimensions, values that are not finite, or sparse initializers whose linear indices are not sorted or
            out of range.
    """
    try:
        model = ModelProto.FromString(data)
        if third_party:
            read_external(model, Path(source), MAX_BYTES - len(data))
        _check_model(model, ("", "ai.onnx", CONTRIB) if contrib else ("", "ai.onnx"))
    except (DecodeError, UnicodeDecodeError) as error:
        msg = f"{source}: not an ONNX file, or a truncated one"
        raise InputError(msg) from error
    except _RefusedError as error:
        msg = f"{source}: {error}"
        raise InputError(msg) from error
    return model


def read_onnx(path: str | Path) -> ModelProto:
    """Reads an ONNX file; see `read_bytes` and `parse_onnx` for the checks."""
    return parse_onnx(read_bytes(path), path)


def write_onnx(model: ModelProto, path: str | Path) -> None:
    """Writes a model to one file, atomically; the same model always gives the same bytes.

    Raises:
        StorageError: The file cannot be written.
    """
    write_atomic(Path(path), model.SerializeToString(deterministic=True))


def array_of(tensor: TensorProto) -> NDArray[Any]:
    """The values of a checked tensor in its shape; do not modify the array."""
    return numpy_helper.to_array(tensor)


def indices_of(tensor: SparseTensorProto) -> NDArray[np.int64]:
    """The linear positions of a checked sparse tensor's values, ascending."""
    return numpy_helper.to_array(tensor.indices)


def dense_array(tensor: TensorProto | SparseTensorProto) -> NDArray[Any]:
    """The values of a checked tensor in its shape, with the zeros that a sparse one omits; do not modify the array."""
    if isinstance(tensor, TensorProto):
        return array_of(tensor)
    values = array_of(tensor.values)
    dense = np.zeros(math.prod(tensor.dims), values.dtype)
    dense[indices_of(tensor)] = values
    return dense.reshape(tuple(tensor.dims))


def _check_model(model: ModelProto, domains: Sequence[str]) -> None:
    # Checked first, because the time of all later checks is proportional to it.
    if len(model.graph.node) > _MAX_NODES:
        _refuse(f"has {len(model.graph.node)} nodes; at most {_MAX_NODES} are allowed")
    if not model.HasField("graph") or not model.graph.node or not model.graph.output:
        _refuse("not an ONNX file: it contains no graph")
    if model.functions:
        _refuse("it defines its own functions; export it with functions inlined")
    if not any(opset.domain in ("", "ai.onnx") for opset in model.opset_import):
        _refuse("it does not declare its ONNX operator set")
    if not all(isinstance(text, str) for text in _texts(model)):
        _refuse("not an ONNX file, or a damaged one: a name in it is not UTF-8 text")
    for node in model.graph.node:
        _check_node(node, domains)
    _check_initializers(model.graph)


def _texts(model: ModelProto) -> Iterator[str | bytes]:
    """The names in a model; protobuf gives bytes where they are not UTF-8."""
    graph = model.graph
    yield from (entry.domain for entry in model.opset_import)
    for node in graph.node:
        yield from (node.op_type, node.domain, node.name, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
    for value in (*graph.input, *graph.output):
        yield value.name
        yield from (dim.dim_param for dim in value.type.tensor_type.shape.dim)
    yield from (name for name, _ in _named_tensors(graph))


def _check_node(node: NodeProto, domains: Sequence[str]) -> None:
    where = f"node {node.name!r} ({node.op_type})"
    if node.domain not in domains:
        hint = "; `verify` takes onnxruntime's own with --allow-contrib-operators" if node.domain == CONTRIB else ""
        _refuse(f"{where} is from the domain {node.domain!r}; only standard ONNX operators are supported{hint}")
    if len({attribute.name for attribute in node.attribute}) < len(node.attribute):
        _refuse(f"{where} has an attribute twice")
    if node.op_type == "Constant" and (node.input or len(node.output) != 1 or len(node.attribute) != 1):
        _refuse(f"{where} is not one constant: it has inputs, several outputs, or not exactly one attribute")
    for attribute in node.attribute:
        _check_attribute(attribute, f"{where}, attribute {attribute.name!r}")


def _check_attribute(attribute: AttributeProto, where: str) -> None:
    # A runtime reads the field that the type names; others could read another one that is filled too.
    filled = {field.name for field, _ in attribute.ListFields()} - {"name", "type", "doc_string"}
    if attribute.type not in _FIELDS or not filled <= {_FIELDS[attribute.type]}:
        _refuse(f"{where} has the type {attribute.type}, and values in {', '.join(sorted(filled)) or 'no field'}")
    if attribute.HasField("g") or attribute.graphs:
        _refuse(f"{where} contains a subgraph; control flow is not supported")
    if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
        _refuse(f"{where} contains a sparse tensor; only initializers may be sparse")
    for tensor in (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors):
        _check_tensor(tensor, where)
    integers = (*([attribute.i] if attribute.HasField("i") else []), *attribute.ints)
    least = 1 if attribute.name in _POSITIVE else -(2**31)
    for value in integers:
        # Kernels multiply such numbers by sizes in 64 bits.
        if not least <= value < 2**31 and attribute.name not in _UNBOUNDED:
            _refuse(f"{where} is {value}, which is out of range")


def _check_initializers(graph: GraphProto) -> None:
    names: set[str] = set()
    for name, tensor in _named_tensors(graph):
        if not name or name in names:
            _refuse(f"initializer {name!r} appears twice" if name else "an initializer has no name")
        names.add(name)
        where = f"initializer {name!r}"
        if isinstance(tensor, TensorProto):
            _check_tensor(tensor, where)
        else:
            _check_sparse(tensor, where)
    total = sum(math.prod(tensor.dims) for tensor in graph.sparse_initializer)
    limit = min(MAX_ELEMENTS, _FREE_ELEMENTS + _EXPANSION * sum(t.values.dims[0] for t in graph.sparse_initializer))
    if total > limit:
        _refuse(f"its sparse initializers expand to {total} elements, more than {limit}")


def _named_tensors(graph: GraphProto) -> Iterator[tuple[str, TensorProto | SparseTensorProto]]:
    for tensor in graph.initializer:
        yield tensor.name, tensor
    for sparse in graph.sparse_initializer:
        yield sparse.values.name, sparse


def _check_tensor(tensor: TensorProto, where: str) -> None:
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        _refuse(f"{where} stores its data in another file; export the model as a single file")
    if tensor.HasField("segment") or tensor.data_type not in _STORAGE:
        _refuse(f"{where} is stored as type {tensor.data_type} or in segments, which is not supported")
    _check_dims(tensor.dims, where)
    item, field = _STORAGE[tensor.data_type]
    typed = len(getattr(tensor, field))
    elements = math.prod(tensor.dims)
    if typed * item + len(tensor.raw_data) != elements * item or (typed and tensor.raw_data):
        _refuse(f"{where} does not contain the {elements} elements of its shape {list(tensor.dims)}")
    if tensor.data_type in _FLOATS and not np.isfinite(array_of(tensor)).all():
        _refuse(f"{where} contains values that are not finite")


def _check_dims(dims: Sequence[int], where: str) -> None:
    shown = list(dims[:_MAX_RANK])
    if len(dims) > _MAX_RANK or any(size < 0 for size in dims):
        _refuse(f"{where} has the dimensions {shown}; at most {_MAX_RANK} are allowed, none of them negative")
    # A dimension of 0 must not hide others that overflow.
    if math.prod(size or 1 for size in dims) > MAX_BYTES:
        _refuse(f"{where} has the dimensions {shown}, more elements than an ONNX file can contain")


def _check_sparse(tensor: SparseTensorProto, where: str) -> None:
    _check_tensor(tensor.values, f"{where} (values)")
    _check_tensor(tensor.indices, f"{where} (indices)")
    if tensor.values.data_type != TensorProto.FLOAT or tensor.indices.data_type != TensorProto.INT64:
        _refuse(f"{where} must have float32 values and int64 indices")
    _check_dims(tensor.dims, where)
    if len(tensor.values.dims) != 1 or list(tensor.indices.dims) != list(tensor.values.dims):
        shapes = f"{list(tensor.indices.dims)} and {list(tensor.values.dims)}"
        _refuse(f"{where} must have one linear index per value, but its indices and values have the shapes {shapes}")
    indices = indices_of(tensor)
    elements = math.prod(tensor.dims)
    ascending = (indices[1:] > indices[:-1]).all()
    if len(indices) and not (indices[0] >= 0 and indices[-1] < elements and ascending):
        _refuse(f"{where} has indices that are not ascending or not below {elements}")


def _refuse(reason: str) -> NoReturn:
    raise _RefusedError(reason)
