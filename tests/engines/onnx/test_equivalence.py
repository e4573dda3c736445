from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import AttributeProto, ModelProto, helper, numpy_helper

from tests.check.forging import scramble
from tests.engines.architectures import SHAPE, network
from tests.engines.nets import small_net
from tests.engines.onnx.graphs import exported_graph
from tscnc_deploy.engines.onnx.equivalence import difference_from_twin
from tscnc_deploy.engines.onnx.export import export_onnx
from tscnc_deploy.engines.onnx.file import read_onnx
from tscnc_deploy.engines.onnx.sparse import write_sparse

FILE = Path("model.onnx")


@pytest.fixture(scope="module")
def exported():
    return exported_graph(small_net(), (1, 8, 8))


@pytest.fixture
def found(exported):
    copied = ModelProto()
    copied.CopyFrom(exported)
    return copied


@pytest.fixture
def dense(architectures):
    """The graph of a ResNet-18."""
    return read_onnx(architectures.dense())


@pytest.fixture
def in_8_bits(architectures):
    """And in 8 bits for onnxruntime."""
    return read_onnx(architectures.int8("onnxruntime"))


@pytest.fixture(scope="module")
def other_weights():
    """And with other weights."""
    model = network()
    with torch.no_grad():
        scramble(model.state_dict())
    return exported_graph(model, SHAPE)


def node(model, op_type, position=0):
    return [each for each in model.graph.node if each.op_type == op_type][position]


def rewrite(model, name, change):
    (tensor,) = [each for each in model.graph.initializer if each.name == name]
    values = numpy_helper.to_array(tensor).copy()
    change(values)
    tensor.CopyFrom(numpy_helper.from_array(values, name))


def test_what_does_not_matter(exported, found):
    names = {value: f"v{place}" for place, each in enumerate(found.graph.node) for value in each.output}
    names.pop("logits")
    for each in found.graph.node:
        each.name = ""
        each.input[:] = [names.get(name, name) for name in each.input]
        each.output[:] = [names.get(name, name) for name in each.output]
        for attribute in each.attribute:
            attribute.doc_string = "said"
    first = found.graph.node[0]
    found.graph.node.append(helper.make_node("Relu", [first.output[0]], ["unused"]))
    found.graph.node.append(helper.make_node("Identity", [node(found, "Gemm").input[0]], ["same"]))
    node(found, "Gemm").input[0] = "same"
    assert difference_from_twin(exported, found, FILE) is None


def test_a_sparse_file_is_the_dense_one(exported, tmp_path):
    export_onnx(small_net(), tmp_path / "dense.onnx", input_shape=(1, 8, 8))
    write_sparse(tmp_path / "dense.onnx", tmp_path / "sparse.onnx")
    sparse = read_onnx(tmp_path / "sparse.onnx")
    assert len(sparse.graph.sparse_initializer) == 3
    assert difference_from_twin(exported, sparse, FILE) is None
    sparse.graph.sparse_initializer[0].values.float_data[0] += 1e-3
    assert "in 1 of 144 values, by up to 0.001" in difference_from_twin(exported, sparse, FILE)


def test_the_exporters_bytes_are_the_graph(exported, tmp_path):
    export_onnx(small_net(), tmp_path / "dense.onnx", input_shape=(1, 8, 8), batch_example=5)
    assert read_onnx(tmp_path / "dense.onnx") == exported


def test_a_weight_changed_by_a_thousandth(exported, found):
    rewrite(found, "second.weight", lambda values: values.__setitem__((0, 0, 0, 0), values[0, 0, 0, 0] + 1e-3))
    said = "the constant 'second.weight' differs from its twin in 1 of 2304 values, by up to 0.001"
    assert difference_from_twin(exported, found, FILE) == said


def test_an_attribute(exported, found):
    (strides,) = [each for each in node(found, "Conv", 1).attribute if each.name == "strides"]
    strides.ints[:] = [1, 1]
    assert "it has Conv" in difference_from_twin(exported, found, FILE)


def test_an_attribute_that_is_added(exported, found):
    norm = node(found, "BatchNormalization")
    norm.attribute.append(helper.make_attribute("training_mode", 1))
    assert "it has BatchNormalization" in difference_from_twin(exported, found, FILE)


def test_inputs_that_change_places(exported, found):
    sub = node(found, "Sub")
    sub.input[:] = [sub.input[1], sub.input[0]]
    assert difference_from_twin(exported, found, FILE) == (
        f"it has the constant '{sub.input[0]}' where its twin has the images"
    ) or "the images where its twin has the constant" in difference_from_twin(exported, found, FILE)


def test_a_node_in_between(exported, found):
    gemm = node(found, "Gemm")
    found.graph.node.append(helper.make_node("Relu", [gemm.output[0]], ["clipped"], name="clip"))
    found.graph.output[0].name = "clipped"
    said = difference_from_twin(exported, found, FILE)
    assert said.startswith("it has Relu 'clip' where its twin has Gemm")


def test_names_from_the_file_are_escaped(exported, found):
    found.graph.node.append(helper.make_node("Relu", ["logits"], ["clipped"], name="\x1b[2J"))
    found.graph.output[0].name = "clipped"
    assert "'\\x1b[2J'" in difference_from_twin(exported, found, FILE)


def test_a_value_that_is_defined_twice(exported, found):
    found.graph.node.append(helper.make_node("Relu", ["images"], ["logits"]))
    assert difference_from_twin(exported, found, FILE) == "model.onnx: the value 'logits' is defined twice"
    found.graph.node.pop()
    found.graph.node.append(helper.make_node("Relu", ["images"], ["second.weight"]))
    assert difference_from_twin(exported, found, FILE) == "model.onnx: the value 'second.weight' is defined twice"


def test_a_circle_ends(exported, found):
    gemm = node(found, "Gemm")
    found.graph.node.append(helper.make_node("Identity", ["b"], ["a"]))
    found.graph.node.append(helper.make_node("Identity", ["a"], ["b"]))
    gemm.input[0] = "a"
    assert "where its twin has" in difference_from_twin(exported, found, FILE)


def test_a_long_chain_that_many_nodes_begin_at_takes_no_time(exported, found):
    gemm = node(found, "Gemm")
    chain = [helper.make_node("Identity", [f"i{place + 1}"], [f"i{place}"]) for place in range(8000)]
    found.graph.node.extend([*chain, helper.make_node("Identity", [gemm.input[0]], ["i8000"])])
    sums = [helper.make_node("Add", [f"s{place + 1}", f"i{place}"], [f"s{place}"]) for place in range(8000)]
    found.graph.node.extend([*sums, helper.make_node("Identity", ["i0"], ["s8000"])])
    gemm.input[0] = "s0"
    started = time.process_time()
    assert difference_from_twin(exported, found, FILE).startswith("it has Add 's0' where its twin has ")
    assert time.process_time() - started < 5


def test_another_opset_or_another_shape(exported, found):
    found.opset_import[0].version = 19
    assert difference_from_twin(exported, found, FILE) == "it is for opset 19, its twin for 20"
    found.opset_import[0].version = 20
    found.opset_import.append(helper.make_opsetid("ai.onnx", 7))
    assert difference_from_twin(exported, found, FILE) == "it is for opset 20 and 7, its twin for 20"
    found.opset_import.pop()
    found.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    assert "batch size" in difference_from_twin(exported, found, FILE)


def test_a_large_sparse_constant_is_not_expanded(exported, found):
    place = next(place for place, each in enumerate(found.graph.initializer) if each.name == "second.weight")
    del found.graph.initializer[place]
    values = helper.make_tensor("second.weight", onnx.TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("at", onnx.TensorProto.INT64, [1], [0])
    found.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [1 << 40]))
    assert "has the shape [1099511627776], in its twin [32, 8, 3, 3]" in difference_from_twin(exported, found, FILE)


@pytest.mark.parametrize("file", ["half", "onnxruntime", "tensorrt"])
def test_files_of_another_precision_are_the_networks(architectures, dense, other_weights, file):
    found = read_onnx(architectures.half() if file == "half" else architectures.int8(file))
    assert difference_from_twin(dense, found, FILE) is None
    assert "differs from its twin" in difference_from_twin(other_weights, found, FILE)


def test_eight_bits_do_not_hide_another_weight(dense, in_8_bits):
    weights = [t for t in in_8_bits.graph.initializer if t.data_type == onnx.TensorProto.INT8 and len(t.dims) == 4]
    name = weights[3].name

    def move(values):
        place = tuple(axis[0] for axis in np.nonzero(values))
        values[place] += 2 if values[place] < 0 else -2

    rewrite(in_8_bits, name, move)
    assert "by more than half a quantisation step in 1 of " in difference_from_twin(dense, in_8_bits, FILE)


def test_eight_bits_do_not_hide_a_weight_where_none_is(dense, in_8_bits):
    values = {t.name: numpy_helper.to_array(t) for t in dense.graph.initializer}
    tensor = [t for t in in_8_bits.graph.initializer if t.data_type == onnx.TensorProto.INT8 and len(t.dims) == 4][3]
    place = tuple(axis[0] for axis in np.nonzero(values[tensor.name] == 0))
    rewrite(in_8_bits, tensor.name, lambda stored: stored.__setitem__(place, 1))
    assert "in 1 of " in difference_from_twin(dense, in_8_bits, FILE)


@pytest.mark.parametrize("what", ["weight", "bias", "activation", "zero"])
def test_the_scales_of_eight_bits_belong_together(dense, in_8_bits, what):
    kinds = {t.name: t.data_type for t in in_8_bits.graph.initializer}
    stored = {"weight": onnx.TensorProto.INT8, "bias": onnx.TensorProto.INT32}
    for each in in_8_bits.graph.node:
        if each.op_type != "DequantizeLinear":
            continue
        kind = kinds.get(each.input[0])
        if what in stored and kind == stored[what]:
            rewrite(in_8_bits, each.input[1], lambda values: values.__imul__(1000))
            break
        if what == "activation" and kind is None:
            # The pair no longer gives back what it was given.
            in_8_bits.graph.initializer.append(numpy_helper.from_array(np.array(7, np.float32), "scale"))
            each.input[1] = "scale"
            break
        if what == "zero" and kind == stored["weight"]:
            rewrite(in_8_bits, each.input[2], lambda values: values.__iadd__(1))
            break
    assert difference_from_twin(dense, in_8_bits, FILE) is not None


def test_attributes_are_compared_whatever_their_order(exported, found):
    conv = node(found, "Conv")
    turned = [AttributeProto.FromString(each.SerializeToString()) for each in reversed(conv.attribute)]
    del conv.attribute[:]
    conv.attribute.extend(turned)
    assert difference_from_twin(exported, found, FILE) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arch", "size"), [("resnet50", 32), ("vgg16", 32), ("wrn28-10", 32), ("mobilenetv2", 32), ("vit-tiny", 8)]
)
def test_every_architecture_in_every_precision(architectures, arch, size):
    # The file was traced with three images, by another process perhaps; the graph is with two.
    exported = exported_graph(network(arch, size), (3, size, size))
    assert read_onnx(architectures.dense(arch, size)) == exported
    for runtime in ("onnxruntime", "tensorrt"):
        found = read_onnx(architectures.int8(runtime, arch, size))
        assert difference_from_twin(exported, found, FILE) is None
    assert difference_from_twin(exported, read_onnx(architectures.half(arch, size)), FILE) is None


def pair(source, output, scale, axes=(None, None)):
    """Nodes that round a value, and the constants that they need."""
    scales = np.array(scale, np.float32)
    constants = [
        numpy_helper.from_array(scales, f"{output}.scale"),
        numpy_helper.from_array(np.zeros(scales.shape, np.int8), f"{output}.zero"),
    ]
    given = [{} if axis is None else {"axis": axis} for axis in axes]
    inputs = [f"{output}.scale", f"{output}.zero"]
    return constants, [
        helper.make_node("QuantizeLinear", [source, *inputs], [f"{output}.q"], name=f"{output}.q", **given[0]),
        helper.make_node("DequantizeLinear", [f"{output}.q", *inputs], [output], name=output, **given[1]),
    ]


@pytest.mark.parametrize("copied", [False, True])
def test_logits_that_are_rounded_are_not_the_networks(dense, in_8_bits, copied):
    for each in in_8_bits.graph.node:
        each.output[:] = ["inner" if name == "logits" else name for name in each.output]
    constants, nodes = pair("inner", "steps" if copied else "logits", 1.0)
    in_8_bits.graph.initializer.extend(constants)
    in_8_bits.graph.node.extend(nodes)
    if copied:
        in_8_bits.graph.node.append(helper.make_node("Identity", ["steps"], ["logits"], name="copy"))
    assert difference_from_twin(dense, in_8_bits, FILE) is not None


@pytest.mark.parametrize("what", ["another axis", "coarsely", "a copy"])
def test_images_that_are_rounded_otherwise_are_not_the_networks(dense, in_8_bits, what):
    if what == "coarsely":
        constants, nodes = pair("images", "rounded", 0.5)
    elif what == "a copy":
        constants, nodes = pair("copied", "rounded", 0.5)
        nodes.insert(0, helper.make_node("Identity", ["images"], ["copied"], name="copy"))
    else:
        constants, nodes = pair("images", "rounded", np.linspace(0.01, 0.1, SHAPE[1]), axes=(2, 3))
    for each in in_8_bits.graph.node:
        each.input[:] = ["rounded" if name == "images" else name for name in each.input]
    rest = list(in_8_bits.graph.node)
    del in_8_bits.graph.node[:]
    in_8_bits.graph.node.extend([*nodes, *rest])
    in_8_bits.graph.initializer.extend(constants)
    assert difference_from_twin(dense, in_8_bits, FILE) is not None
