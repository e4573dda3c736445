"""One node with its operands, judged by onnxruntime, or by ONNX's reference where onnxruntime has no kernel."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx.reference
import onnxruntime
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidGraph, NotImplemented

from tscnc_deploy.engines.onnx.differentiable.graph import GraphModule
from tscnc_deploy.engines.onnx.differentiable.shapes import shapes_of
from tscnc_deploy.engines.onnx.signature import signature_of

Array = NDArray[Any]
# Of the standard operators that the installed onnxruntime opens.
NEWEST = 26
PATH = Path("model.onnx")


@dataclass
class Case:
    """One node.

    Attributes:
        op: The operator; a domain other than ONNX's is before its last point.
        inputs: Operands, None for absent ones.
        attributes: As for `helper.make_node`.
        opset: Version of the standard operators.
        outputs: Number of outputs.
        live: Positions of the operands that are computed from images; the others are stored.
        relative: Largest difference allowed, as a share of the largest value.
        absolute: Largest difference allowed besides.
        reference: Whether onnxruntime is known to be wrong, so that ONNX's reference is asked.
    """

    op: str
    inputs: Sequence[Array | None]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    opset: int = NEWEST
    outputs: int = 1
    live: tuple[int, ...] = (0,)
    relative: float = 1e-5
    absolute: float = 1e-7
    reference: bool = False


Make = Callable[[Random], Case]


def floats(r: Random, *shape: int, low: float = -2.0, high: float = 2.0) -> Array:
    values = np.random.default_rng(r.randrange(1 << 16)).uniform(low, high, shape)
    return np.asarray(values, np.float32)


def whole(r: Random, *shape: int, low: int = -9, high: int = 9, dtype: Any = np.int64) -> Array:
    """Integers from low to high, both included."""
    return np.asarray(np.random.default_rng(r.randrange(1 << 16)).integers(low, high, shape, endpoint=True), dtype)


def int64(*values: int) -> Array:
    return np.array(values, np.int64)


def shape_of(r: Random, least: int = 1, most: int = 4, size: int = 4) -> list[int]:
    return [r.randint(1, size) for _ in range(r.randint(least, most))]


def axis_of(r: Random, rank: int) -> int:
    return r.randint(-rank, rank - 1)


def some(r: Random, **attributes: Any) -> dict[str, Any]:
    """The attributes, each left out now and then."""
    return {name: value for name, value in attributes.items() if r.random() < 0.7}


def _node(case: Case, names: Sequence[str]) -> onnx.NodeProto:
    domain, _, op = case.op.rpartition(".")
    outputs = [f"out{place}" for place in range(case.outputs)]
    return helper.make_node(op, names, outputs, name="the node", domain=domain, **case.attributes)


def _model(case: Case, graph: onnx.GraphProto) -> ModelProto:
    opsets = [helper.make_opsetid("", case.opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, ir_version=10, opset_imports=opsets)


def expected(case: Case) -> list[Array]:
    """What the judge computes."""
    feeds, stored, infos, names = {}, [], [], []
    for place, array in enumerate(case.inputs):
        names.append("" if array is None else f"in{place}")
        if array is None:
            continue
        if place in case.live:
            feeds[names[-1]] = array
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            infos.append(helper.make_tensor_value_info(names[-1], kind, array.shape))
        else:
            stored.append(numpy_helper.from_array(array, names[-1]))
    outputs = [helper.make_empty_tensor_value_info(f"out{place}") for place in range(case.outputs)]
    model = _model(case, helper.make_graph([_node(case, names)], "g", infos, outputs, stored))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    if not case.reference:
        try:
            session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
            return session.run(None, feeds)
        except (NotImplemented, InvalidGraph):
            pass
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [np.asarray(found) for found in onnx.reference.ReferenceEvaluator(model).run(None, feeds)]


def around(case: Case, results: Sequence[tuple[int, ...]]) -> tuple[ModelProto, Array]:
    """A classifier of one image whose numbers are the live operands, and whose logits are the node's results."""
    nodes, stored, names, pixels = [], [], [], [np.zeros(1, np.float32)]
    taken = 1
    for place, array in enumerate(case.inputs):
        names.append("" if array is None else f"in{place}")
        if array is None:
            continue
        if place not in case.live:
            stored.append(numpy_helper.from_array(array, names[-1]))
            continue
        where = np.arange(taken, taken + array.size).reshape(array.shape)
        taken += array.size
        pixels.append(array.reshape(-1).astype(np.float32))
        stored.append(numpy_helper.from_array(where, f"where{place}"))
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        gathered = names[-1] if kind == TensorProto.FLOAT else f"float{place}"
        nodes.append(helper.make_node("Gather", ["flat", f"where{place}"], [gathered]))
        if gathered != names[-1]:
            nodes.append(helper.make_node("Cast", [gathered], [names[-1]], to=kind))
    nodes.append(_node(case, names))
    for place in range(case.outputs):
        nodes.append(helper.make_node("Cast", [f"out{place}"], [f"as float{place}"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Flatten", [f"as float{place}"], [f"row{place}"], axis=0))
    rows = [f"row{place}" for place in range(case.outputs)]
    # A number of the image, so that there is a gradient even where the node's results are constants.
    nodes.append(helper.make_node("Concat", ["one", *rows], ["logits"], axis=1))
    image = np.concatenate(pixels).reshape(1, 1, 1, -1)
    classes = 1 + sum(int(np.prod(shape)) for shape in results)
    first = [
        helper.make_node("Flatten", ["images"], ["row"], axis=0),
        helper.make_node("Reshape", ["row", "all"], ["flat"]),
        helper.make_node("Gather", ["row", "zero"], ["one"], axis=1),
    ]
    stored += [numpy_helper.from_array(int64(-1), "all"), numpy_helper.from_array(int64(0), "zero")]
    graph = helper.make_graph(
        [*first, *nodes],
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, image.shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, classes])],
        stored,
    )
    return _model(case, graph), image


def check_values(case: Case) -> None:
    """The reader computes the judge's values and shapes: in float32 and float64, with and without a gradient."""
    judged = expected(case)
    shapes = [tuple(array.shape) for array in judged]
    wanted = np.concatenate([np.zeros(1), *(np.asarray(array, np.float64).reshape(-1) for array in judged)])
    finite = np.abs(wanted[np.isfinite(wanted)])
    tolerance = case.absolute + case.relative * finite.max(initial=0)
    for live in (case.live, ()):
        model, image = around(replace(case, live=live), shapes)
        found = shapes_of(model, signature_of(model, PATH), 1, PATH)
        assert [found[f"out{place}"] for place in range(case.outputs)] == shapes
        module = GraphModule(model, PATH)
        # Constants are computed when a module is made.
        for dtype in (torch.float32, torch.float64) if live else (torch.float32,):
            images = torch.from_numpy(image).to(dtype)
            plain = module.to(dtype)(images)
            graded = module(images.clone().requires_grad_())
            assert graded.requires_grad
            assert plain.dtype == graded.dtype == dtype
            for logits in (plain, graded.detach()):
                np.testing.assert_allclose(logits[0].double().numpy(), wanted, rtol=0, atol=tolerance)


def check_gradient(case: Case, fast: bool = True) -> None:
    """The gradient is that of finite differences, for all operands in floating point, in float64."""
    shapes = [tuple(array.shape) for array in expected(case)]
    model, image = around(case, shapes)
    module = GraphModule(model, PATH).double()
    images = torch.from_numpy(image).double().requires_grad_()
    assert torch.autograd.gradcheck(module, (images,), eps=1e-6, atol=1e-5, rtol=1e-4, fast_mode=fast)


def gradient(case: Case, results: Sequence[tuple[int, ...]]) -> list[float]:
    """Of the sum of all results, whose shapes are given, with respect to the live operands."""
    model, image = around(case, results)
    images = torch.from_numpy(image).requires_grad_()
    GraphModule(model, PATH)(images)[0, 1:].sum().backward()
    assert images.grad is not None
    return images.grad.reshape(-1)[1:].tolist()


def examples(make: Make, check: Callable[[Case], None], count: int) -> None:
    """Checks so many cases, always the same ones."""

    @settings(
        max_examples=count,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(st.randoms(use_true_random=False))
    def run(r: Random) -> None:
        case = make(r)
        shapes = [None if array is None else (array.dtype.name, array.shape) for array in case.inputs]
        note(f"{case.op} of operator set {case.opset}, {dict(case.attributes)}, {shapes}, live {case.live}")
        check(case)

    run()


def few_and_many(few: int = 2, many: int = 30) -> pytest.MarkDecorator:
    """A test's argument `count`: few examples always, many in slow runs."""
    return pytest.mark.parametrize("count", [few, pytest.param(many, marks=pytest.mark.slow)])
