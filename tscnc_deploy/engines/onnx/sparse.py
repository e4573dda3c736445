"""The sparse form of an ONNX file: only the non-zero weights are stored.

Written as the last step of an export, because ONNX optimisers, converters and quantisers drop or refuse
`sparse_initializer` (ONNX IR, "SparseTensorProto"). onnxruntime opens the file and runs it like the dense one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import SparseTensorProto, TensorProto

from tscnc_deploy.engines.onnx.file import array_of, read_onnx, write_onnx
from tscnc_deploy.engines.onnx.runtime import OnnxRuntimeEngine
from tscnc_deploy.engines.onnx.structure import weight_names
from tscnc_deploy.errors import InputError

# onnxruntime expands the weights when it opens the file, so results are bitwise equal.
_SAME = 1e-6


def write_sparse(dense_path: str | Path, sparse_path: str | Path) -> None:
    """Writes the sparse form of a dense ONNX file; weights that would not get smaller stay dense.

    Values are float32 in `float_data`. Positions are linear, ascending int64 indices in `int64_data`, where protobuf
    packs each into one to four bytes instead of the eight of `raw_data`. A negative zero becomes a zero.

    Args:
        dense_path: The exported file.
        sparse_path: The file to write.

    Raises:
        InputError: The dense file is refused, see `onnx.file.read_onnx`, or onnxruntime does not compute the
            same logits from both files.
        StorageError: The sparse file cannot be written.
    """
    model = read_onnx(dense_path)
    initializers = model.graph.initializer
    weights = set(weight_names(model.graph))
    gains = {}
    for position, tensor in enumerate(initializers):
        if tensor.name in weights and tensor.data_type == TensorProto.FLOAT:
            sparse = _sparse(tensor)
            if sparse.ByteSize() < tensor.ByteSize():
                gains[position] = sparse
    model.graph.sparse_initializer.extend(gains.values())
    for position in reversed(gains):
        del initializers[position]
    write_onnx(model, sparse_path)
    try:
        _compare(Path(dense_path), Path(sparse_path))
    except InputError:
        Path(sparse_path).unlink()
        raise


def _sparse(tensor: TensorProto) -> SparseTensorProto:
    flat = array_of(tensor).reshape(-1)
    indices = np.flatnonzero(flat)
    sparse = SparseTensorProto(dims=tensor.dims)
    sparse.values.name = tensor.name
    sparse.values.data_type = TensorProto.FLOAT
    sparse.values.dims.append(len(indices))
    sparse.values.float_data.extend(flat[indices].tolist())
    sparse.indices.data_type = TensorProto.INT64
    sparse.indices.dims.append(len(indices))
    sparse.indices.int64_data.extend(indices.tolist())
    return sparse


def _compare(dense_path: Path, sparse_path: Path) -> None:
    dense, sparse = OnnxRuntimeEngine(dense_path), OnnxRuntimeEngine(sparse_path)
    images = np.random.default_rng(0).random((2, *dense.spec.input_shape), np.float32)
    difference = float(np.abs(dense.logits(images) - sparse.logits(images)).max())
    if not difference <= _SAME:
        msg = f"{sparse_path}: its logits differ by {difference:g} from those of {dense_path}; it must not be used"
        raise InputError(msg)
