"""The 8-bit form of an ONNX file: QDQ nodes around every layer except the first and the last, statically calibrated.

There are two forms, because the runtimes recognise different ones:

- onnxruntime runs a layer in 8 bits if its input, weight and output are all quantised. Activations are unsigned, so
that a ReLU costs nothing. Weights use 7 bits: on processors without 8-bit dot products onnxruntime adds pairs of
products in 16 bits, which saturates with 8-bit weights, so the same file would give logits there that differ from
those that were attacked.
- TensorRT expects symmetric quantised inputs and weights, and fuses the rest itself.

Batch norms are folded first (see `fold_norms`). Zeros stay zeros, and small weights may become zeros.
"""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
from onnx import ModelProto

from tscnc_deploy.engines.base import Array
from tscnc_deploy.engines.onnx.file import read_onnx, write_onnx
from tscnc_deploy.engines.onnx.fold_norms import fold_norms
from tscnc_deploy.engines.onnx.runtime import OnnxRuntimeEngine
from tscnc_deploy.engines.onnx.signature import signature_of
from tscnc_deploy.engines.onnx.structure import weighted_nodes
from tscnc_deploy.errors import InputError

_OPERATORS = ["Conv", "Gemm", "MatMul"]
_EIGHT_BIT = ("QLinearConv", "QGemm", "QLinearMatMul", "MatMulIntegerToFloat")
_BATCH = 32


def write_int8(
    dense_path: str | Path, int8_path: str | Path, calibration: Array, *, runtime: Literal["onnxruntime", "tensorrt"]
) -> None:
    """Writes the 8-bit form of a dense float32 ONNX file.

    Weights have one scale per output channel. Activations have one per tensor, from the smallest and largest value on
    the calibration images. Images, logits, and the first and last layer stay float32. Weights keep their names.

    Args:
        dense_path: File with one float32 input and one float32 output.
        int8_path: The file to write.
        calibration: Representative images, float32 [N, C, H, W] in [0, 1], N >= 1; never test images.
        runtime: The runtime to write the form for.

    Raises:
        InputError: The file is refused, see `onnx.file.read_onnx`; it has fewer than three layers with weights; the
            images have the wrong shape; or onnxruntime would not run all inner layers in 8 bits.
        StorageError: The file cannot be written.
    """
    model = read_onnx(dense_path)
    signature = signature_of(model, Path(dense_path))
    if calibration.shape[1:] != signature.input_shape or calibration.dtype != np.float32 or not len(calibration):
        expected = ", ".join(map(str, signature.input_shape))
        msg = f"{dense_path}: calibration images must be float32 [N, {expected}], not {list(calibration.shape)}"
        raise InputError(msg)
    places = sorted(weighted_nodes(model.graph))
    if len(places) < 3:
        msg = f"{dense_path}: {len(places)} layers with weights; the first and last stay fp32, so int8 needs at least 3"
        raise InputError(msg)
    layers = [model.graph.node[place].name for place in places]
    quantised = _quantise(fold_norms(model), layers[1:-1], _Images(signature.input, calibration), runtime)
    write_onnx(quantised, int8_path)
    try:
        if runtime == "onnxruntime":
            _check_runs_in_eight_bits(quantised, len(layers) - 2, Path(int8_path))
        _check_finite(Path(int8_path), calibration[:2])
    except InputError:
        Path(int8_path).unlink()
        raise


def _quantise(model: ModelProto, layers: list[str], images: _Images, runtime: str) -> ModelProto:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    for_tensorrt = runtime == "tensorrt"
    options: dict[str, Any] = {"ActivationSymmetric": for_tensorrt, "WeightSymmetric": True}
    if for_tensorrt:
        # TensorRT's parser refuses 32-bit biases.
        options |= {"QuantizeBias": False, "OpTypesToExcludeOutputQuantization": _OPERATORS}
    with tempfile.TemporaryDirectory() as folder, _quiet():
        path = Path(folder) / "model.onnx"
        quantize_static(
            model,
            path,
            images.reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_OPERATORS,
            nodes_to_quantize=layers,
            per_channel=True,
            reduce_range=not for_tensorrt,
            activation_type=QuantType.QInt8 if for_tensorrt else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options=options,
        )
        return _plain(read_onnx(path))


def _plain(model: ModelProto) -> ModelProto:
    """Restores the names of weights and removes the name of the tool."""
    taken = {name for node in model.graph.node for name in (*node.input, *node.output)}
    named = {tensor.name: tensor.name.removesuffix("_quantized") for tensor in model.graph.initializer}
    renamed = {name: plain for name, plain in named.items() if plain not in taken}
    for tensor in model.graph.initializer:
        tensor.name = renamed.get(tensor.name, tensor.name)
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = renamed.get(name, name)
    del model.metadata_props[:]
    model.producer_name = "tscnc-deploy"
    model.producer_version = ""
    return model


class _Images:
    """Calibration images, in batches, as a reader for onnxruntime's calibration."""

    def __init__(self, name: str, images: Array) -> None:
        self._name = name
        self._images = images

    def reader(self) -> Any:
        from onnxruntime.quantization import CalibrationDataReader

        batches = iter(np.split(self._images, range(_BATCH, len(self._images), _BATCH)))
        name = self._name

        class Reader(CalibrationDataReader):  # type: ignore[misc]
            def get_next(self) -> dict[str, Array] | None:
                batch = next(batches, None)
                return None if batch is None else {name: batch}

        return Reader()


def _check_runs_in_eight_bits(model: ModelProto, layers: int, path: Path) -> None:
    """Checks that onnxruntime runs all inner layers in 8 bits, rather than in float32 with 8-bit weights."""
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        optimised = ModelProto.FromString(Path(options.optimized_model_filepath).read_bytes())
    found = Counter(node.op_type for node in optimised.graph.node)
    eight_bit = sum(found[name] for name in _EIGHT_BIT)
    if eight_bit < layers:
        msg = f"{path}: onnxruntime runs {eight_bit} of {layers} inner layers in 8 bits, the others in float32"
        raise InputError(msg)


def _check_finite(path: Path, images: Array) -> None:
    if not np.isfinite(OnnxRuntimeEngine(path).logits(images)).all():
        msg = f"{path}: its logits on calibration images are not finite"
        raise InputError(msg)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hides the advice that the quantiser logs through the root logger."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
