"""Files as other tools write them: each with the logits that it should give."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tscnc_deploy.engines.onnx.foreign import adopt
from tscnc_deploy.engines.onnx.reading import Reading
from tscnc_deploy.engines.onnx.runtime import OnnxRuntimeEngine
from tscnc_deploy.errors import InputError

# Logit k is the mean of channel k times k + 1; pixels in [0, 1], three channels.
IMAGES = np.random.default_rng(0).random((5, 3, 4, 4)).astype(np.float32)
LOGITS = IMAGES.mean((2, 3)) * [1, 2, 3]
SCALE = np.array([1, 2, 3], np.float32)


def build(
    nodes,
    stored=(),
    *,
    kind=TensorProto.FLOAT,
    sizes=("batch", 3, 4, 4),
    outputs=(("logits", TensorProto.FLOAT, ["batch", 3]),),
    opset=17,
    inputs=(),
):
    graph = helper.make_graph(
        list(nodes),
        "by hand",
        [helper.make_tensor_value_info("x", kind, list(sizes)), *inputs],
        [helper.make_tensor_value_info(name, type_, shape) for name, type_, shape in outputs],
        [numpy_helper.from_array(array, name) for name, array in {"scale": SCALE, **dict(stored)}.items()],
    )
    domains = {node.domain for node in nodes} | {""}
    opsets = [helper.make_opsetid(domain, opset if not domain else 1) for domain in domains]
    return helper.make_model(graph, ir_version=9, opset_imports=opsets)


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs.split(), [output], name=output, **attributes)


def head(source, output="logits"):
    """The mean of every channel of [batch, 3, 4, 4], times the scale."""
    return [node("ReduceMean", source, "means", axes=[2, 3], keepdims=0), node("Mul", "means scale", output)]


def run(model, tmp_path, images=IMAGES, *, reading=None, **changes):
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    adopted = adopt(path, reading, **changes)
    contrib = bool(reading and reading.contrib)
    engine = OnnxRuntimeEngine(path, read=lambda *_: adopted.data, contrib=contrib, threads=1)
    return engine.logits(images), adopted


def agrees(model, tmp_path, expected=LOGITS, notes=(), images=IMAGES, **changes):
    logits, adopted = run(model, tmp_path, images, **changes)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
    assert len(adopted.notes) == len(notes)
    for found, wanted in zip(adopted.notes, notes, strict=True):
        assert wanted in found
    return adopted


def test_a_file_in_our_form_is_run_byte_for_byte(tmp_path):
    adopted = agrees(build(head("x")), tmp_path)
    assert adopted.data == (tmp_path / "model.onnx").read_bytes()


def test_channels_last_by_the_sizes(tmp_path):
    nodes = [node("Transpose", "x", "first", perm=[0, 3, 1, 2]), *head("first")]
    agrees(build(nodes, sizes=("batch", 4, 4, 3)), tmp_path, notes=["channels last"])


def test_channels_last_by_the_first_node_where_sizes_are_free(tmp_path):
    nodes = [node("Transpose", "x", "first", perm=[0, 3, 1, 2]), *head("first")]
    model = build(nodes, sizes=("batch", "a", "b", "c"))
    reading = Reading(input_size=(4, 4), image_channels=3)
    agrees(model, tmp_path, notes=["channels last"], reading=reading)


def test_three_channels_first_and_three_wide_stay_first(tmp_path):
    images = IMAGES[:, :, :, :3]
    agrees(build(head("x"), sizes=("batch", 3, 4, 3)), tmp_path, images.mean((2, 3)) * SCALE, images=images)


def test_channels_last_by_option(tmp_path):
    model = build(
        [node("Transpose", "x", "same", perm=[0, 1, 2, 3]), node("ReduceMean", "same", "m", axes=[1, 2], keepdims=0),
         node("Mul", "m scale", "logits")],
        sizes=("batch", 3, 4, 3),
    )  # fmt: skip
    images = IMAGES[:, :, :3]
    expected = images.mean((2, 3)) * SCALE
    agrees(model, tmp_path, expected, ["channels last"], images, reading=Reading(layout="nhwc"))


@pytest.mark.parametrize(
    ("op", "value"), [("Div", 255.0), ("Mul", 1 / 255), ("Div", 127.5)], ids=["by 255", "times 1/255", "by 127.5"]
)
def test_pixels_to_255_by_the_first_nodes(tmp_path, op, value):
    nodes = [node(op, "x k", "scaled"), *head("scaled")]
    factor = 255 / value if op == "Div" else 1
    model = build(nodes, {"k": np.array(value, np.float32)})
    agrees(model, tmp_path, LOGITS * factor, ["pixels from 0 to 255"])


def test_pixels_to_255_by_option_and_not_against_it(tmp_path):
    agrees(build(head("x")), tmp_path, LOGITS * 255, reading=Reading(range=255))
    model = build([node("Div", "x k", "scaled"), *head("scaled")], {"k": np.array(255, np.float32)})
    agrees(model, tmp_path, LOGITS / 255, reading=Reading(range=1))


def test_the_means_of_caffe_tell_range_and_colours(tmp_path):
    means = np.array([103.939, 116.779, 123.68], np.float32).reshape(1, 3, 1, 1)
    model = build([node("Sub", "x means_", "centred"), *head("centred")], {"means_": means})
    blue_first = IMAGES[:, ::-1] * 255 - means
    agrees(model, tmp_path, blue_first.mean((2, 3)) * SCALE, ["0 to 255", "blue before red"])


def test_blue_first_by_option(tmp_path):
    agrees(build(head("x")), tmp_path, IMAGES[:, ::-1].mean((2, 3)) * SCALE, reading=Reading(channels="bgr"))


def test_a_normalisation_is_in_the_unit_of_the_range(tmp_path):
    expected = ((IMAGES * 255 - 128) / 64).mean((2, 3)) * SCALE
    agrees(build(head("x")), tmp_path, expected, mean=(128.0,), std=(64.0,), reading=Reading(range=255))
    expected = ((IMAGES - 0.5) / 0.25).mean((2, 3)) * SCALE
    agrees(build(head("x")), tmp_path, expected, mean=(0.5,), std=(0.25,))


def test_bytes_are_rounded_pixels(tmp_path):
    model = build([node("Cast", "x", "floats", to=TensorProto.FLOAT), *head("floats")], kind=TensorProto.UINT8)
    expected = np.round(IMAGES * 255).mean((2, 3)) * SCALE
    agrees(model, tmp_path, expected, ["bytes"])


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_other_floats_are_cast_at_the_border(tmp_path, kind):
    type_ = helper.tensor_dtype_to_np_dtype(kind)
    model = build(head("x"), {"scale": SCALE.astype(type_)}, kind=kind, outputs=[("logits", kind, ["batch", 3])])
    logits, adopted = run(model, tmp_path)
    np.testing.assert_allclose(logits, LOGITS, rtol=2e-3 if kind == TensorProto.FLOAT16 else 1e-6)
    assert logits.dtype == np.float32
    assert len(adopted.notes) == 1


@pytest.mark.parametrize("last", ["Softmax", "Sigmoid"])
def test_probabilities_are_cut_off(tmp_path, last):
    nodes = [*head("x", "scores"), node(last, "scores", "p"), node("Identity", "p", "logits")]
    agrees(build(nodes), tmp_path, notes=[f"the {last} at its end is left out"])


def test_labels_are_cut_off_to_their_scores(tmp_path):
    nodes = [*head("x", "scores"), node("ArgMax", "scores", "label", axis=1, keepdims=0)]
    model = build(nodes, outputs=[("label", TensorProto.INT64, ["batch"])])
    agrees(model, tmp_path, notes=["the ArgMax at its end is left out"])


def test_labels_without_scores(tmp_path):
    nodes = [
        *head("x", "scores"),
        node("TopK", "scores k", "best", axis=1),
    ]
    nodes[-1].output.append("label")
    model = build(nodes, {"k": np.array([1], np.int64)}, outputs=[("label", TensorProto.INT64, ["batch", 1])])
    logits, adopted = run(model, tmp_path, reading=Reading(classes=3))
    assert adopted.labels_only
    assert logits.tolist() == (2 * np.eye(3) - 1)[LOGITS.argmax(1)].tolist()
    with pytest.raises(InputError, match="returns labels only"):
        adopt(tmp_path / "model.onnx")


def test_one_logit_is_two_classes(tmp_path):
    nodes = [*head("x", "three"), node("ReduceSum", "three axes_", "z", keepdims=1), node("Sigmoid", "z", "p")]
    model = build(nodes, {"axes_": np.array([1], np.int64)}, outputs=[("p", TensorProto.FLOAT, ["batch", 1])])
    z = LOGITS.sum(1)
    agrees(model, tmp_path, np.stack([0 * z, z], 1), ["Sigmoid", "[0, z]"])


@pytest.mark.parametrize("shape", [[-1, 3, 1, 1], [-1, 1, 1, 3]])
def test_axes_of_size_one_are_removed(tmp_path, shape):
    nodes = [*head("x", "flat"), node("Reshape", "flat shape_", "logits")]
    declared = [("logits", TensorProto.FLOAT, ["batch", *shape[1:]])]
    agrees(build(nodes, {"shape_": np.array(shape, np.int64)}, outputs=declared), tmp_path)


def test_several_outputs(tmp_path):
    nodes = [*head("x", "a"), node("Neg", "a", "b")]
    two = [("a", TensorProto.FLOAT, ["batch", 3]), ("b", TensorProto.FLOAT, ["batch", 3])]
    model = build(nodes, outputs=two)
    with pytest.raises(InputError, match=r"one output \[batch, classes\]; --output NAME chooses one; it has 'a' .*'b'"):
        run(model, tmp_path)
    agrees(model, tmp_path, -LOGITS, ["of its 2 outputs, 'b' is used"], reading=Reading(output="b"))
    with pytest.raises(InputError, match="--output c: is not an output"):
        run(model, tmp_path, reading=Reading(output="c"))
    features = [("x4", TensorProto.FLOAT, ["batch", 3, 4, 4]), ("a", TensorProto.FLOAT, ["batch", 3])]
    agrees(build([node("Relu", "x", "x4"), *head("x", "a")], outputs=features), tmp_path, notes=["'a' is used"])


def test_inputs_with_default_values_are_constants(tmp_path):
    more = [helper.make_tensor_value_info("scale", TensorProto.FLOAT, [3])]
    agrees(build(head("x"), inputs=more), tmp_path)
    missing = [helper.make_tensor_value_info("training", TensorProto.BOOL, [])]
    with pytest.raises(InputError, match=r"one input without a default value, the images, but has 'x' .*'training'"):
        run(build(head("x"), inputs=missing), tmp_path)


def test_files_whose_initializers_had_to_be_inputs(tmp_path):
    more = [helper.make_tensor_value_info("scale", TensorProto.FLOAT, [3])]
    model = build(head("x"), inputs=more, opset=9)
    model.ir_version = 3
    agrees(model, tmp_path)


def test_a_softmax_over_regions_stays(tmp_path):
    nodes = [
        node("Softmax", "x", "p", axis=-1),
        node("Reshape", "p rows_", "r"),
        node("MatMul", "r ones_", "s"),
        node("Reshape", "s three_", "logits"),
    ]
    stored = {
        "rows_": np.array([-1, 12, 4], np.int64),
        "ones_": np.ones((4, 1), np.float32),
        "three_": np.array([0, 12], np.int64),
    }
    model = build(nodes, stored, outputs=[("logits", TensorProto.FLOAT, ["batch", 12])])
    agrees(model, tmp_path, np.ones((5, 12)))
    only = [node("Softmax", "x", "p", axis=-1), node("Flatten", "p", "logits")]
    model = build(only, outputs=[("logits", TensorProto.FLOAT, ["batch", 48])])
    raised = np.exp(IMAGES)
    agrees(model, tmp_path, (raised / raised.sum(-1, keepdims=True)).reshape(5, 48))


def test_saturated_probabilities_stay(tmp_path):
    nodes = [*head("x", "scores"), node("HardSigmoid", "scores", "logits", alpha=10.0)]
    agrees(build(nodes), tmp_path, np.clip(LOGITS * 10 + 0.5, 0, 1))


def test_free_height_and_width(tmp_path):
    model = build(head("x"), sizes=("batch", 3, "height", "width"))
    with pytest.raises(InputError, match="leaves height and width free; give --input-size"):
        run(model, tmp_path)
    agrees(model, tmp_path, reading=Reading(input_size=(4, 4)))


def test_operators_of_onnxruntime(tmp_path):
    nodes = [*head("x", "plain"), helper.make_node("QuickGelu", ["plain"], ["logits"], domain="com.microsoft")]
    model = build(nodes)
    with pytest.raises(InputError, match="only standard ONNX operators are supported"):
        run(model, tmp_path)
    agrees(model, tmp_path, LOGITS / (1 + np.exp(-1.702 * LOGITS)), reading=Reading(contrib=True))


def test_order_of_classes(tmp_path):
    agrees(build(head("x")), tmp_path, LOGITS[:, [2, 0]], order=(2, 0))
    with pytest.raises(InputError, match="among the engine's 3 logits"):
        run(build(head("x")), tmp_path, order=(0, 3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean": (0.5, 0.5), "std": (1.0,)}, "--mean has 2 values; give one value or one per channel"),
        ({"mean": (0.5,), "std": (0.0,)}, "--std 0: standard deviations must be above 0"),
    ],
)
def test_a_normalisation_that_does_not_fit(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        run(build(head("x")), tmp_path, **changes)


def test_options_that_contradict_the_file(tmp_path):
    model = build([node("Cast", "x", "floats", to=TensorProto.FLOAT), *head("floats")], kind=TensorProto.UINT8)
    with pytest.raises(InputError, match="takes bytes, which are pixels from 0 to 255; leave out --range 1"):
        run(model, tmp_path, reading=Reading(range=1))
    with pytest.raises(InputError, match="takes bytes, which cannot be normalised"):
        run(model, tmp_path, mean=(0.5,), std=(0.5,))
    with pytest.raises(InputError, match="has 1 channels; --channels bgr needs 3"):
        run(build(head("x"), sizes=("batch", 1, 4, 4)), tmp_path, reading=Reading(channels="bgr"))
    with pytest.raises(InputError, match="takes images that are too large"):
        run(build(head("x"), sizes=("batch", 3, 2**62, 4)), tmp_path)
    with pytest.raises(InputError, match="must take images with four axes"):
        run(build([node("Mul", "x scale", "logits")], sizes=("batch", 3)), tmp_path)


def test_a_softmax_over_the_batch_is_refused(tmp_path):
    nodes = [*head("x", "scores"), node("Softmax", "scores", "logits", axis=0)]
    with pytest.raises(InputError, match="depends on the other images of the batch"):
        run(build(nodes), tmp_path)
