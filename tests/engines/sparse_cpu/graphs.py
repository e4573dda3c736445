"""Small ONNX files, made by hand or from modules, and the comparison with onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.engines.nets import random_images
from tscnc_deploy.engines.onnx.runtime import OnnxRuntimeEngine
from tscnc_deploy.engines.sparse_cpu.engine import SparseCpuEngine
from tscnc_deploy.engines.sparse_cpu.library import INSTRUCTIONS, instructions_for
from tscnc_deploy.errors import UnavailableError


def available() -> list[str]:
    """The instruction sets that run here."""
    found = []
    for name in INSTRUCTIONS[1:]:
        try:
            found.append(instructions_for(name))
        except UnavailableError:
            continue
    return found


def sparse_array(shape, density: float, seed: int, scale: float = 1.0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    values = generator.standard_normal(shape, np.float32) * np.float32(scale)
    return np.where(generator.random(shape) < density, values, np.float32(0))


def write_graph(path: Path, nodes, constants, input_shape, classes: int, batch="batch") -> Path:
    """Nodes read "images" and end in "logits"; constants are arrays by name."""
    graph = helper.make_graph(
        nodes,
        "by hand",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, *input_shape])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, classes])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 20)])
    path.write_bytes(model.SerializeToString())
    return path


def assert_same(path: Path, batches, *, instructions: str = "auto", threads: int = 1, tolerance: float = 1e-4) -> None:
    ours = SparseCpuEngine(path, instructions=instructions, threads=threads)
    theirs = OnnxRuntimeEngine(path, threads=1)
    images = random_images(max(batches), ours.spec.input_shape)
    for batch in batches:
        expected = theirs.logits(images[:batch])
        np.testing.assert_allclose(
            ours.logits(images[:batch]), expected, rtol=0, atol=tolerance * max(1, np.abs(expected).max() / 10)
        )
