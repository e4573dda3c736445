"""Random small networks with random masks, with onnxruntime as the judge.

SPARSE_CPU_EXAMPLES sets how many are tried; add --hypothesis-seed=N to a long run for others than the last time.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from tests.engines.sparse_cpu.graphs import assert_same, available, sparse_array, write_graph


@st.composite
def networks(draw):
    """Nodes, constants, the shape of images and the number of classes."""
    channels, height, width = draw(st.integers(1, 5)), draw(st.integers(1, 19)), draw(st.integers(1, 19))
    shape = (channels, height, width)
    nodes, constants, last = [], {}, "images"
    kept = {}  # earlier activations by their shape, for sums
    for i in range(draw(st.integers(1, 6))):
        out = f"a{i}"
        choice = draw(st.sampled_from(["conv", "conv", "conv", "pool", "norm", "relu", "clip", "add", "concat"]))
        if choice in ("conv", "pool"):
            kernel = [draw(st.integers(1, min(5, side + 2))) for side in (height, width)]
            dilations = [draw(st.integers(1, 2)) for _ in kernel]
            reach = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
            limit = [r if choice == "conv" else (k - 1) for r, k in zip(reach, kernel, strict=True)]
            pads = [draw(st.integers(0, limit[axis % 2])) for axis in range(4)]
            strides = [draw(st.integers(1, 3)) for _ in kernel]
            sizes = [
                (side + pads[a] + pads[a + 2] - reach[a] - 1) // strides[a] + 1
                for a, side in enumerate((height, width))
            ]
            fits = all(side + pads[a] + pads[a + 2] > reach[a] for a, side in enumerate((height, width)))
            if not fits or (choice == "pool" and dilations != [1, 1]):
                continue
            window = {"kernel_shape": kernel, "dilations": dilations, "pads": pads, "strides": strides}
            if choice == "conv":
                divisors = [g for g in range(1, channels + 1) if channels % g == 0]
                groups = draw(st.sampled_from(divisors))
                filters = groups * draw(st.integers(1, 7) | st.sampled_from([24, 33]))  # many: see test_winograd
                density = draw(st.sampled_from([0.0, 0.05, 0.3, 0.7, 1.0]))
                seed = draw(st.integers(0, 99))
                weight_shape = (filters, channels // groups, *kernel)
                constants[f"w{i}"] = sparse_array(weight_shape, density, seed, 0.5)
                inputs = [last, f"w{i}"]
                if draw(st.booleans()):
                    constants[f"b{i}"] = sparse_array((filters,), 0.9, seed)
                    inputs.append(f"b{i}")
                nodes.append(helper.make_node("Conv", inputs, [out], group=groups, **window))
                channels = filters
            else:
                nodes.append(helper.make_node("MaxPool", [last], [out], **window))
            height, width = sizes
        elif choice == "norm":
            for part in "gsmv":
                constants[f"{part}{i}"] = np.abs(sparse_array((channels,), 1.0, i + ord(part))) + np.float32(0.1)
            nodes.append(helper.make_node("BatchNormalization", [last, *(f"{part}{i}" for part in "gsmv")], [out]))
        elif choice == "relu":
            nodes.append(helper.make_node("Relu", [last], [out]))
        elif choice == "clip":
            constants[f"l{i}"], constants[f"h{i}"] = np.float32(-0.25), np.float32(1)
            nodes.append(helper.make_node("Clip", [last, f"l{i}", f"h{i}"], [out]))
        else:
            other = draw(st.sampled_from(kept.get((channels, height, width), [last])))
            nodes.append(helper.make_node("Add" if choice == "add" else "Concat", [last, other], [out]))
            if choice == "concat":
                nodes[-1].attribute.append(helper.make_attribute("axis", 1))
                channels *= 2
        last = out
        kept.setdefault((channels, height, width), []).append(last)
    if draw(st.booleans()):
        nodes.append(helper.make_node("GlobalAveragePool", [last], ["pooled"]))
        last, height, width = "pooled", 1, 1
    classes = draw(st.integers(1, 9))
    constants["fc"] = sparse_array((classes, channels * height * width), 0.5, 7, 0.5)
    nodes.append(helper.make_node("Flatten", [last], ["flat"]))
    nodes.append(helper.make_node("Gemm", ["flat", "fc"], ["logits"], transB=1))
    return nodes, constants, shape, classes


EXAMPLES = int(os.environ.get("SPARSE_CPU_EXAMPLES", "150"))


@pytest.mark.slow
@settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
@given(network=networks(), batch=st.integers(1, 19), threads=st.integers(1, 2))
def test_random_networks_agree_with_onnxruntime(network, batch, threads):
    nodes, constants, shape, classes = network
    with tempfile.TemporaryDirectory() as folder:
        path = write_graph(Path(folder) / "model.onnx", nodes, constants, shape, classes)
        for instructions in available():
            assert_same(path, (1, batch), instructions=instructions, threads=threads)
