from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.engines.onnx.graphs import classifier
from tscnc_deploy.engines.onnx.differentiable.operators import OPERATORS
from tscnc_deploy.engines.onnx.file import read_onnx
from tscnc_deploy.engines.onnx.flat import CASTS, CHOOSING, FLAT, flat_nodes

# Smooth, or flat only in part; those that have no operand with what images show are among them.
ORDINARY = {
    *("Abs", "Acos", "Acosh", "Add", "Asin", "Asinh", "Atan", "Atanh", "Attention", "AveragePool"),
    *("BatchNormalization", "Celu", "Clip", "Concat", "Constant", "ConstantOfShape", "Conv", "ConvTranspose", "Cos"),
    *("Cosh", "CumSum", "DepthToSpace", "DequantizeLinear", "Div", "Dropout", "Einsum", "Elu", "Erf", "Exp", "Expand"),
    *("EyeLike", "Flatten", "Gelu", "Gemm", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool"),
    *("GroupNormalization", "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization", "LRN"),
    *("LayerNormalization", "LeakyRelu", "Log", "LogSoftmax", "LpNormalization", "LpPool", "MatMul", "Max", "MaxPool"),
    *("Mean", "MeanVarianceNormalization", "Min", "Mish", "Mul", "Neg", "PRelu", "Pad", "Pow", "RMSNormalization"),
    *("Range", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean"),
    *("ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu", "Reshape", "Resize", "Selu", "Shape"),
    *("Sigmoid", "Sin", "Sinh", "Size", "Slice", "Softmax", "Softplus", "Softsign", "SpaceToDepth", "Split", "Sqrt"),
    *("Squeeze", "Sub", "Sum", "Swish", "Tan", "Tanh", "Tile", "Transpose", "Trilu", "Unsqueeze", "Upsample"),
}


def found(nodes, stored=()):
    return [node.name for node in flat_nodes(classifier(nodes, stored), Path("model.onnx"))]


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs, outputs, f"the {op}", **attributes)


def constant(name, values, dtype=np.float32):
    return numpy_helper.from_array(np.array(values, dtype), name)


def test_every_operator_that_is_read_is_known_to_be_flat_or_not():
    standard = {name for name in OPERATORS if "." not in name}
    assert standard == ORDINARY | FLAT | CHOOSING.keys() | CASTS
    assert not ORDINARY & (FLAT | CHOOSING.keys() | CASTS)


@pytest.mark.parametrize("op", ["Round", "Floor", "Ceil", "Sign", "Shrink", "ThresholdedRelu"])
def test_steps(op):
    assert found([node(op, ["x"], ["y"])]) == [f"the {op}"]


def test_a_step_behind_others():
    nodes = [node("Identity", ["x"], ["same"]), node("Round", ["same"], ["whole"]), node("Relu", ["whole"], ["y"])]
    assert found(nodes) == ["the Round"]


def test_a_choice_by_what_the_images_show():
    nodes = [node("Greater", ["x", "half"], ["is"]), node("Where", ["is", "half", "x"], ["y"])]
    assert found(nodes, [constant("half", 0.5)]) == ["the Greater", "the Where"]


def test_a_choice_by_a_constant():
    nodes = [node("Where", ["is", "half", "x"], ["y"])]
    assert found(nodes, [constant("half", 0.5), constant("is", [[True, False, False, True]], bool)]) == []


@pytest.mark.parametrize(
    ("to", "flat"), [(TensorProto.FLOAT16, True), (TensorProto.INT64, True), (TensorProto.DOUBLE, False)]
)
def test_a_cast(to, flat):
    nodes = [node("Cast", ["x"], ["other"], to=to), helper.make_node("Cast", ["other"], ["y"], "back", to=1)]
    assert found(nodes) == (["the Cast"] if flat else [])


def test_what_only_gives_a_size_or_leads_nowhere():
    nodes = [
        node("Round", ["x"], ["whole"]),
        node("Shape", ["whole"], ["sizes"]),
        node("Reshape", ["x", "sizes"], ["y"]),
        node("Sign", ["x"], ["unused"]),
    ]
    assert found(nodes) == []


def test_an_exported_network_has_none(architectures):
    assert list(flat_nodes(read_onnx(architectures.dense()), Path("model.onnx"))) == []
    for arch in ("mobilenetv2", "vit-tiny"):
        assert list(flat_nodes(read_onnx(architectures.dense(arch, 8)), Path("model.onnx"))) == []
    quantised = [each.op_type for each in flat_nodes(read_onnx(architectures.int8("onnxruntime")), Path("model.onnx"))]
    assert set(quantised) == {"QuantizeLinear"}
