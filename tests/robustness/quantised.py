"""A small network and its int8 engine: the real thing, with the gaps that quantisation leaves."""

from __future__ import annotations

from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from tscnc_deploy.engines.onnx.export import export_onnx
from tscnc_deploy.engines.onnx.runtime import OnnxRuntimeEngine


class Calibration(CalibrationDataReader):
    """The images, in batches of 100."""

    def __init__(self, images):
        self.batches = iter(images.split(100))

    def get_next(self):
        batch = next(self.batches, None)
        return None if batch is None else {"images": batch.numpy()}


def int8_engine(model, folder, images):
    """The model as onnxruntime's static int8 QDQ engine, calibrated on the images; its files are written to folder."""
    export_onnx(model, folder / "float.onnx", input_shape=tuple(images.shape[1:]))
    quantize_static(
        folder / "float.onnx",
        folder / "int8.onnx",
        Calibration(images),
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return OnnxRuntimeEngine(folder / "int8.onnx", threads=1)
