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

FUNCTIONS = [
    "Sigmoid",
    "Tanh",
    "HardSwish",
    "HardSigmoid",
    "Gelu",
    "Softplus",
    "Mish",
    "LeakyRelu",
    "Elu",
    "Erf",
    "Abs",
]
MOVES = ["function", "gate", "average", "shuffle", "turn", "part", "pad", "softmax", "layer norm", "attention", "map"]


def _moved(draw, choice, name, last, out, shape):
    """Nodes and constants from one activation to the next, and its shape; None if they do not fit."""
    channels, height, width = shape
    node = helper.make_node
    divisors = [g for g in range(1, channels + 1) if channels % g == 0]
    seed = draw(st.integers(0, 99))
    axis = draw(st.integers(1, 3))
    if choice == "function":
        return [node(draw(st.sampled_from(FUNCTIONS)), [last], [out])], {}, shape
    if choice == "gate":
        pooled, kind = [f"{name}p"], draw(st.sampled_from(["GlobalAveragePool", "GlobalMaxPool"]))
        inputs = draw(st.permutations([last, f"{name}g"]))
        combine = draw(st.sampled_from(["Mul", "Sub", "Max", "Min"]))
        nodes = [node(kind, [last], pooled), node("Sigmoid", pooled, [f"{name}g"]), node(combine, inputs, [out])]
        return nodes, {}, shape
    if choice == "average":
        kernel = [draw(st.integers(1, min(3, side))) for side in (height, width)]
        pads = [draw(st.integers(0, kernel[place % 2] - 1)) for place in range(4)]
        include = draw(st.integers(0, 1))
        nodes = [node("AveragePool", [last], [out], kernel_shape=kernel, pads=pads, count_include_pad=include)]
        sizes = (side + pads[a] + pads[a + 2] - kernel[a] + 1 for a, side in enumerate((height, width)))
        return nodes, {}, (channels, *sizes)
    if choice == "shuffle":
        groups = draw(st.sampled_from(divisors))
        nodes = [
            node("Reshape", [last, f"{name}a"], [f"{name}r"]),
            node("Transpose", [f"{name}r"], [f"{name}t"], perm=[0, 2, 1, 3, 4]),
            node("Reshape", [f"{name}t", f"{name}b"], [out]),
        ]
        constants = {
            f"{name}a": np.array([-1, groups, channels // groups, height, width]),
            f"{name}b": np.array([0, channels, height, -1]),
        }
        return nodes, constants, shape
    if choice == "turn":
        order = draw(st.permutations([0, 1, 2]))
        nodes = [node("Transpose", [last], [out], perm=[0, *(place + 1 for place in order)])]
        return nodes, {}, tuple(shape[place] for place in order)
    if choice == "part":
        first = draw(st.integers(0, shape[axis - 1] - 1))
        step = draw(st.integers(1, 3))
        parts = {"s": first, "e": 2**62, "x": axis, "t": step}
        constants = {f"{name}{key}": np.array([value]) for key, value in parts.items()}
        sizes = list(shape)
        sizes[axis - 1] = len(range(first, shape[axis - 1], step))
        return [node("Slice", [last, *constants], [out])], constants, tuple(sizes)
    if choice == "pad":
        pads = [0, *(draw(st.integers(0, 2)) for _ in range(3)), 0, *(draw(st.integers(0, 2)) for _ in range(3))]
        sizes = tuple(side + pads[1 + a] + pads[5 + a] for a, side in enumerate(shape))
        return (
            [node("Pad", [last, name, f"{name}v"], [out])],
            {name: np.array(pads), f"{name}v": np.float32(0.5)},
            sizes,
        )
    if choice == "softmax":
        return [node("Softmax", [last], [out], axis=axis)], {}, shape
    if choice == "layer norm":
        constants = {f"{name}g": sparse_array((width,), 1.0, seed), f"{name}b": sparse_array((width,), 1.0, seed + 1)}
        # A large epsilon, as hardly any variance would multiply rounding errors.
        return [node("LayerNormalization", [last, *constants], [out], axis=-1, epsilon=0.1)], constants, shape
    if choice == "map":
        where = [draw(st.booleans()) for _ in shape]
        sizes = [side if varies else 1 for side, varies in zip(shape, where, strict=True)]
        constants = {name: sparse_array(sizes, 1.0, seed)}
        combine = draw(st.sampled_from(["Add", "Mul", "Sub", "Max"]))
        return [node(combine, draw(st.permutations([last, name])), [out])], constants, shape
    heads = draw(st.sampled_from(divisors))
    tokens = height * width
    if tokens * max(tokens, channels) > 1 << 14:
        return None
    constants = {
        f"{name}a": np.array([0, heads, channels // heads, tokens]),
        f"{name}b": np.array([-1, channels, height, width]),
    }
    nodes = [
        node("Reshape", [last, f"{name}a"], [f"{name}k"]),
        node("Transpose", [f"{name}k"], [f"{name}q"], perm=[0, 1, 3, 2]),
        node("Tanh", [f"{name}q"], [f"{name}u"]),
        node("MatMul", [f"{name}u", f"{name}k"], [f"{name}s"]),
        node("Softmax", [f"{name}s"], [f"{name}p"]),
        node("MatMul", [f"{name}p", f"{name}q"], [f"{name}o"]),
        node("Transpose", [f"{name}o"], [f"{name}t"], perm=[0, 1, 3, 2]),
        node("Reshape", [f"{name}t", f"{name}b"], [out]),
    ]
    return nodes, constants, shape


@st.composite
def networks(draw):
    """Nodes, constants, the shape of images and the number of classes."""
    channels, height, width = draw(st.integers(1, 5)), draw(st.integers(1, 19)), draw(st.integers(1, 19))
    shape = (channels, height, width)
    nodes, constants, last = [], {}, "images"
    kept = {}  # earlier activations by their shape, for sums
    for i in range(draw(st.integers(1, 6))):
        out = f"a{i}"
        choice = draw(st.sampled_from(["conv"] * 6 + ["pool", "norm", "relu", "clip", "add", "concat"] * 2 + MOVES))
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
        elif choice in MOVES:
            made = _moved(draw, choice, f"m{i}", last, out, (channels, height, width))
            if made is None:
                continue
            new_nodes, new_constants, (channels, height, width) = made
            nodes += new_nodes
            constants |= new_constants
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
