"""As a file is read, it must give the labels that it gives itself."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tscnc_deploy.engines.onnx.reading import Reading
from tscnc_deploy.errors import InputError
from tscnc_deploy.verify import CheckpointSource, OnnxSource, draw_images
from tscnc_deploy.verify.answers import settled
from tscnc_deploy.verify.gradients import require_twin

IMAGES = np.random.default_rng(0).random((40, 2, 2, 2)).astype(np.float32)
MEANS = IMAGES.mean((2, 3))


def write(path, nodes, output, constants=()):
    """Images [batch, 2, 2, 2], their two means "m" [batch, 2], and what the nodes make of them."""
    first = helper.make_node("ReduceMean", ["x"], ["m"], axes=[2, 3], keepdims=0)
    name, kind, sizes = output
    graph = helper.make_graph(
        [first, *(helper.make_node(op, inputs.split(), [out], **more) for op, inputs, out, more in nodes)],
        "by hand",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2, 2, 2])],
        [helper.make_tensor_value_info(name, kind, sizes)],
        [numpy_helper.from_array(np.array(array), key) for key, array in dict(constants).items()],
    )
    onnx.save(helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 17)]), path)
    return OnnxSource(path, reading=Reading(classes=2))


def test_a_softmax_is_left_out(tmp_path):
    source = write(tmp_path / "m.onnx", [("Softmax", "m", "p", {})], ("p", TensorProto.FLOAT, ["batch", 2]))
    assert settled(source, IMAGES) == source
    np.testing.assert_allclose(source.logits(IMAGES), MEANS, rtol=1e-5)


def test_a_sigmoid_that_saturates_stays(tmp_path):
    nodes = [("Mul", "m large", "z", {}), ("Sigmoid", "z", "p", {})]
    source = write(tmp_path / "m.onnx", nodes, ("p", TensorProto.FLOAT, ["batch", 2]), {"large": np.float32(1e4)})
    found = settled(source, IMAGES)
    assert found.reading.cut is False
    assert found.logits(IMAGES).argmax(1).tolist() == [0] * 40
    assert source.logits(IMAGES).argmax(1).tolist() == MEANS.argmax(1).tolist()


def test_one_probability_is_not_a_logit(tmp_path):
    nodes = [("Mul", "m large", "z", {}), ("Softmax", "z", "both", {}), ("Gather", "both one", "p", {"axis": 1})]
    constants = {"large": np.float32(9), "one": np.array([1], np.int64)}
    source = write(tmp_path / "m.onnx", nodes, ("p", TensorProto.FLOAT, ["batch", 1]), constants)
    assert source.logits(IMAGES).argmax(1).tolist() == [1] * 40
    assert settled(source, IMAGES).logits(IMAGES).argmax(1).tolist() == MEANS.argmax(1).tolist()


def test_one_logit_stays(tmp_path):
    source = write(
        tmp_path / "m.onnx",
        [("ReduceSum", "m axes", "s", {"keepdims": 1}), ("Sub", "s one", "z", {})],
        ("z", TensorProto.FLOAT, ["batch", 1]),
        {"axes": np.array([1], np.int64), "one": np.float32(1)},
    )
    assert settled(source, IMAGES) == source
    assert source.logits(IMAGES).argmax(1).tolist() == (MEANS.sum(1) > 1).astype(int).tolist()


def test_labels_that_the_data_set_does_not_have(tmp_path):
    nodes = [("TopK", "m one", "best", {"axis": 1})]
    path = tmp_path / "m.onnx"
    write(path, nodes, ("best", TensorProto.FLOAT, ["batch", 1]), {"one": np.array([1], np.int64)})
    model = onnx.load(path)
    model.graph.node[1].output.append("label")
    model.graph.node.append(helper.make_node("Add", ["label", "one"], ["from one"]))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("from one", TensorProto.INT64, ["batch", 1]))
    onnx.save(model, path)
    with pytest.raises(InputError, match="returns labels from 1 to 2, but the data set has 2 classes, from 0 to 1"):
        settled(OnnxSource(path, reading=Reading(classes=2)), IMAGES)
    assert settled(OnnxSource(path, reading=Reading(classes=3)), IMAGES).adopted().labels_only


def test_a_twin_must_give_the_files_labels(files, digits):
    images, _, _ = draw_images(digits, 40, 0)
    twin = CheckpointSource(files.saved)
    assert (
        require_twin(OnnxSource(files.whole, twin=twin), images)["why"] == "labels of the twin agree on 40 of 40 images"
    )
    with pytest.raises(InputError, match=r"--twin: its labels agree with those of .*permuted\.onnx on \d+ of 40"):
        require_twin(OnnxSource(files.permuted, (0.3,), (0.4,), twin=twin), images)
