from __future__ import annotations

import copy
import pickle

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from tests.engines.onnx.differentiable.cases import PATH
from tests.engines.onnx.graphs import WEIGHT, classifier
from tscnc_deploy.engines.onnx.differentiable.graph import GraphModule
from tscnc_deploy.engines.onnx.file import parse_onnx
from tscnc_deploy.errors import InputError


def read(model):
    return GraphModule(parse_onnx(model.SerializeToString(), PATH), PATH)


def logits_of(model, images):
    """What onnxruntime computes, as many images at a time as the file takes."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (taken,) = session.get_inputs()
    return session.run(None, {taken.name: images.numpy()})[0]


def images_of(count, *shape):
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(count))


def stored(**arrays):
    return [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]


RELU = [helper.make_node("Relu", ["x"], ["y"])]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_any_number_of_images(count):
    images = images_of(count, 1, 2, 2) - 0.5
    # The logits are the first three pixels.
    assert torch.equal(read(classifier(RELU))(images), images.reshape(count, 4)[:, :3].relu())


@pytest.mark.parametrize("batch", ["batch", 2])
def test_no_images_have_no_logits(batch):
    images = torch.zeros(0, 1, 2, 2, requires_grad=True)
    logits = read(classifier(RELU, batch=batch))(images)
    assert logits.shape == (0, 3)
    logits.sum().backward()
    assert images.grad.shape == (0, 1, 2, 2)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_a_file_with_a_fixed_batch_is_given_that_many_at_a_time(count):
    images = images_of(count, 1, 2, 2).requires_grad_()
    logits = read(classifier(RELU, batch=3))(images)
    assert torch.equal(logits, images.reshape(count, 4)[:, :3])
    logits.sum().backward()
    assert images.grad.reshape(count, 4).tolist() == [[1, 1, 1, 0]] * count


def test_images_of_another_shape_are_refused():
    with pytest.raises(InputError, match=r"model\.onnx: takes images of \(1, 2, 2\), not \(1, 3, 3\)"):
        read(classifier(RELU))(torch.zeros(1, 1, 3, 3))


def test_a_copy_and_a_pickled_module_compute_the_same():
    module, images = read(classifier(RELU)), images_of(2, 1, 2, 2)
    wanted = module(images)
    assert torch.equal(copy.deepcopy(module)(images), wanted)
    assert torch.equal(pickle.loads(pickle.dumps(module))(images), wanted)


def test_in_float64_it_computes_in_float64():
    images = images_of(2, 1, 2, 2).double()
    assert read(classifier(RELU)).double()(images).dtype == torch.float64
    # Images are converted, and have their gradient in their own dtype.
    images = images.float().requires_grad_()
    logits = read(classifier(RELU)).double()(images)
    logits.sum().backward()
    assert (logits.dtype, images.grad.dtype) == (torch.float64, torch.float32)


def test_it_is_not_traced():
    with pytest.raises(TypeError, match="a graph is not traced"):
        torch.fx.symbolic_trace(read(classifier(RELU)))


def test_it_has_no_parameters_and_is_in_eval_mode():
    module = read(classifier(RELU))
    assert not list(module.parameters()) and not module.training


def test_the_size_of_the_batch_in_a_shape():
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["count"]),
        helper.make_node("Unsqueeze", ["count", "axis"], ["row"]),
        helper.make_node("Concat", ["row", "rest"], ["wanted"], axis=0),
        helper.make_node("Reshape", ["x", "wanted"], ["square"]),
        helper.make_node("Transpose", ["square"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("Flatten", ["turned"], ["y"]),
    ]
    model = classifier(nodes, stored(zero=np.int64(0), axis=np.int64([0]), rest=np.int64([2, 2])))
    module = read(model)
    for count in (1, 2, 5):
        images = images_of(count, 1, 2, 2)
        np.testing.assert_array_equal(module(images).numpy(), logits_of(model, images))
    # What is computed from constants and from images alone is not computed again.
    assert [step.node.op for step in module.steps].count("Concat") == 1


def test_what_is_computed_from_constants_is_computed_once():
    nodes = [
        helper.make_node("Mul", ["two", "two"], ["four"]),
        helper.make_node("Neg", ["unused"], ["nothing"]),
        helper.make_node("Mul", ["x", "four"], ["y"]),
    ]
    module = read(classifier(nodes, stored(two=np.float32(2), unused=np.float32(1))))
    assert [step.node.op for step in module.steps] == ["Flatten", "Mul", "MatMul"]
    assert module(torch.ones(1, 1, 2, 2)).tolist() == [[4, 4, 4]]


def test_nodes_without_a_reader_are_left_out():
    module = read(classifier([helper.make_node("Exp", ["x"], ["nothing"]), *RELU]))
    assert [step.node.op for step in module.steps] == ["Flatten", "Relu", "MatMul"]


def test_values_are_forgotten_after_their_last_reader():
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Add", ["x", "a"], ["y"])]
    module = read(classifier(nodes))
    assert [set(step.ends) for step in module.steps] == [{"images"}, set(), {"x", "a"}, {"y", "w4"}]


CONV = np.arange(4, dtype=np.float32).reshape(4, 1, 1, 1)


def _normed(first, second):
    """Two convolutions with a norm each, of which the second reads the result of the first's norm."""
    parts = {"gain": [1, 2, 3, 4], "shift": [0, 1, 0, 1], "mean": [0.5] * 4, "variance": [1, 4, 1, 4]}
    arrays = {name: np.float32(values) for name, values in parts.items()}
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["image"]),
        helper.make_node("Conv", ["image", first], ["a"]),
        helper.make_node("BatchNormalization", ["a", *parts], ["b"]),
        helper.make_node("ReduceMean", ["b"], ["c"], axes=[1], keepdims=1),
        helper.make_node("Conv", ["c", second], ["d"]),
        helper.make_node("BatchNormalization", ["d", *parts], ["e"]),
        helper.make_node("ReduceMean", ["e"], ["f"], axes=[1], keepdims=0),
        helper.make_node("Flatten", ["f"], ["y"]),
    ]
    return classifier(nodes, stored(shape=np.int64([-1, 1, 2, 2]), one=CONV, other=CONV + 1, **arrays), opset=13)


@pytest.mark.parametrize("second", ["one", "other"])
def test_norms_after_convolutions_with_a_shared_weight(second):
    model, images = _normed("one", second), images_of(3, 1, 2, 2)
    module = read(model)
    np.testing.assert_allclose(module(images).numpy(), logits_of(model, images), rtol=1e-5)
    norms = [step.node.op for step in module.steps].count("BatchNormalization")
    assert norms == (2 if second == "one" else 0)


def test_layers_that_share_a_weight():
    nodes = [helper.make_node("MatMul", ["x", "square"], ["a"]), helper.make_node("MatMul", ["a", "square"], ["y"])]
    model = classifier(nodes, stored(square=np.float32(np.arange(16).reshape(4, 4))))
    images = images_of(2, 1, 2, 2)
    np.testing.assert_allclose(read(model)(images).numpy(), logits_of(model, images), rtol=1e-6)


@pytest.mark.parametrize("kind", ["FLOAT16", "BFLOAT16", "DOUBLE"])
def test_layers_in_other_floats_agree_within_their_precision(kind):
    number = getattr(TensorProto, kind)
    weight = helper.make_tensor("w", number, [4, 4], [value / 8 for value in range(16)])
    nodes = [
        helper.make_node("Cast", ["x"], ["a"], to=number),
        helper.make_node("MatMul", ["a", "w"], ["b"])
        if kind != "BFLOAT16"
        else helper.make_node("Add", ["a", "w"], ["b"]),
        helper.make_node("Cast", ["b"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    if kind == "BFLOAT16":
        weight = helper.make_tensor("w", number, [4], [0.5, 1, 1.5, 2])
    model, images = classifier(nodes, [weight]), images_of(2, 1, 2, 2).requires_grad_()
    logits = read(model)(images)
    if kind == "BFLOAT16":  # onnxruntime has no kernel
        wanted = images.detach().bfloat16().float().reshape(2, 4)[:, :3] + torch.tensor([0.5, 1, 1.5])
    else:
        wanted = torch.from_numpy(logits_of(model, images.detach()))
    tolerance = {"FLOAT16": 2e-3, "BFLOAT16": 1e-6, "DOUBLE": 1e-6}[kind]
    torch.testing.assert_close(logits.detach(), wanted, rtol=tolerance, atol=tolerance)
    logits.sum().backward()
    assert images.grad.abs().sum() > 0


def test_integers_of_images_divide_as_integers_and_have_a_gradient():
    nodes = [
        helper.make_node("Mul", ["x", "many"], ["a"]),
        helper.make_node("Cast", ["a"], ["b"], to=TensorProto.INT32),
        helper.make_node("Div", ["b", "two"], ["c"]),
        helper.make_node("Cast", ["c"], ["y"], to=TensorProto.FLOAT),
    ]
    model = classifier(nodes, stored(many=np.float32(10), two=np.int32(2)))
    images = torch.tensor([0.31, 0.5, 0.99, 0]).reshape(1, 1, 2, 2).requires_grad_()
    module = read(model)
    assert module(images.detach()).tolist() == module(images).tolist() == [[1, 2, 4]]
    module(images).sum().backward()
    assert images.grad.reshape(-1).tolist() == [5, 5, 5, 0]


def test_sparse_weights():
    model = classifier([helper.make_node("MatMul", ["x", "sparse"], ["y"])])
    values, indices = stored(sparse=np.float32([2, 3]), at=np.int64([0, 5]))
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4, 4]))
    assert read(model)(torch.ones(1, 1, 2, 2)).tolist() == [[2, 3, 0]]


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([helper.make_node("LSTM", ["x"], ["y"], name="n")], r"node 'n' \(LSTM\): gradients of this operator are not"),
        ([helper.make_node("Relu", ["z"], ["y"], name="n")], r"node 'n' \(Relu\): reads 'z' before it is computed"),
        ([*RELU, helper.make_node("Abs", ["x"], ["y"], name="n")], r"node 'n' \(Abs\): writes 'y', which is written"),
        ([helper.make_node("Relu", ["w4"], ["y"], name="n")], r"node 'the layer' \(MatMul\)"),
        ([helper.make_node("Transpose", ["x"], ["y"])], r"node 'the layer' \(MatMul\)"),
        ([helper.make_node("Split", ["x"], ["y", "b", "c", "d", "e"], name="n", axis=1)], r"node 'n' \(Split\)"),
        ([helper.make_node("NonZero", ["x"], ["y"], name="n")], r"node 'n' \(NonZero\): the size 'x' depends on what"),
    ],
)
def test_what_it_cannot_compute_is_refused(nodes, message):
    with pytest.raises(InputError, match=rf"^model\.onnx: .*{message}"):
        read(classifier(nodes))


def test_an_output_that_does_not_depend_on_the_images_is_refused():
    model = classifier([*RELU, helper.make_node("Identity", ["w4"], ["other"])], batch=4)
    model.graph.output[0].name = "other"
    with pytest.raises(InputError, match="its output does not depend on the images"):
        read(model)


def test_an_output_that_no_node_computes_is_refused():
    model = classifier(RELU)
    model.graph.output[0].name = "nothing"
    with pytest.raises(InputError, match="its nodes do not compute the output 'nothing'"):
        read(model)


def test_weights_are_those_of_the_file():
    assert sum(buffer.numel() for buffer in read(classifier(RELU)).buffers()) == WEIGHT.size + 1
