"""Nodes that are right, made wrong at random: whatever they say, they are computed or refused."""

from __future__ import annotations

import os
import time
from importlib import import_module
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from onnx import AttributeProto, helper, numpy_helper

from tests.engines.onnx.differentiable import operators
from tests.engines.onnx.differentiable.cases import PATH, around, expected
from tscnc_deploy.engines.onnx.differentiable.graph import GraphModule
from tscnc_deploy.engines.onnx.file import parse_onnx
from tscnc_deploy.errors import InputError

SECONDS = float(os.environ.get("DIFFERENTIABLE_FUZZ_SECONDS", "10"))
NUMBERS = [0, 1, -1, 2, -2, 3, 7, 100, -100, 65_537, 2**20, 2**31 - 1, -(2**31), 2**40, 2**62, -(2**63), 2**63 - 1]
VALUES = [
    *NUMBERS,
    0.5,
    -0.5,
    1e30,
    -1e30,
    1e-30,
    "",
    "SAME_UPPER",
    "linear",
    [],
    [0],
    [-1],
    [1, 2],
    [2**31 - 1] * 4,
    [0.5],
]
SHAPES = [[], [0], [1], [2], [1, 1], [3, 2], [1, 2, 2], [1, 2, 3, 3], [2, 1, 1, 1, 2]]


def _cases():
    names = sorted(path.stem for path in Path(operators.__file__).parent.glob("test_*.py"))
    modules = [import_module(f"{operators.__name__}.{name}") for name in names]
    found = {op: make for module in modules for op, make in getattr(module, "CASES", {}).items()}
    return [found[op] for op in sorted(found) if "." not in op]


def _mutate(r, model):
    node = next(node for node in model.graph.node if node.name == "the node")
    kind = r.choice(["attribute", "attribute", "new", "numbers", "numbers", "shape", "inputs", "image"])
    if kind == "attribute" and node.attribute:
        place = r.randrange(len(node.attribute))
        name = node.attribute[place].name
        del node.attribute[place]
        if r.random() < 0.9:
            value = r.choice(VALUES)
            kinds = {"attr_type": AttributeProto.INTS} if value == [] else {}
            node.attribute.append(helper.make_attribute(name, value, **kinds))
    elif kind == "new":
        names = [
            "axis",
            "axes",
            "pads",
            "strides",
            "dilations",
            "group",
            "kernel_shape",
            "block_size",
            "mode",
            "keepdims",
        ]
        name = r.choice(names)
        if name not in {attribute.name for attribute in node.attribute}:
            value = r.choice([value for value in VALUES if value != []])
            node.attribute.append(helper.make_attribute(name, value))
    elif kind in ("numbers", "shape"):
        tensors = [tensor for tensor in model.graph.initializer if tensor.name.startswith(("in", "where"))]
        if tensors:
            tensor = r.choice(tensors)
            array = np.array(numpy_helper.to_array(tensor))
            if kind == "shape" and not tensor.name.startswith("where"):
                shape = r.choice(SHAPES)
                array = np.resize(array, shape) if array.size else np.zeros(shape, array.dtype)
            elif array.size and not tensor.name.startswith("where"):
                with np.errstate(all="ignore"):
                    array.reshape(-1)[r.randrange(array.size)] = np.array(r.choice(NUMBERS)).astype(array.dtype)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    elif kind == "inputs" and node.input:
        place = r.randrange(len(node.input))
        names = ["", "row", "flat", "one", "all", "zero", *node.input]
        if r.random() < 0.3:
            del node.input[place]
        else:
            node.input[place] = r.choice(names)
    elif kind == "image":
        tensors = [tensor for tensor in model.graph.initializer if tensor.name.startswith("where")]
        if tensors:
            tensor = r.choice(tensors)
            where = np.zeros(r.choice(SHAPES), np.int64)
            tensor.CopyFrom(numpy_helper.from_array(where, tensor.name))


def fuzz(seconds, seed=0):
    """How many graphs were computed, and how many refused."""
    r, makes, end = Random(seed), _cases(), time.monotonic() + seconds
    computed = refused = 0
    while time.monotonic() < end:
        case = r.choice(makes)(r)
        model, image = around(case, [array.shape for array in expected(case)])
        for _ in range(10):
            mutant = type(model).FromString(model.SerializeToString())
            for _ in range(r.randint(1, 3)):
                _mutate(r, mutant)
            start = time.process_time()
            try:
                module = GraphModule(parse_onnx(mutant.SerializeToString(), PATH), PATH)
                module(torch.from_numpy(image))
                module(torch.from_numpy(image).requires_grad_()).sum().backward()
                computed += 1
            except InputError:
                refused += 1
            except BaseException:
                print(helper.printable_graph(mutant.graph))
                raise
            assert time.process_time() - start < 5, helper.printable_graph(mutant.graph)
    return computed, refused


@pytest.mark.slow
def test_whatever_a_node_says_it_is_computed_or_refused():
    computed, refused = fuzz(SECONDS)
    assert computed > 0 and refused > 0
