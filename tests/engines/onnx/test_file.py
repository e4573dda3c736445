from __future__ import annotations

import random

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tests.engines.nets import dense_weight, linear_onnx, random_images, sparse_weight
from tscnc_deploy.engines.onnx.file import parse_onnx, read_onnx, write_onnx
from tscnc_deploy.engines.onnx.runtime import OnnxRuntimeEngine
from tscnc_deploy.errors import InputError, StorageError


def _external() -> TensorProto:
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 2], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value="/etc/passwd")
    return weight


def _with_dims(*dims: int) -> TensorProto:
    return TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, float_data=[1.0] * 8)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (_external(), "initializer 'w' stores its data in another file"),
        (_with_dims(2**40, 2**40), "more elements than an ONNX file can contain"),
        (_with_dims(-4, -2), r"has the dimensions \[-4, -2\]"),
        (_with_dims(*[2**62] * 1000), "at most 8 are allowed, none of them negative"),
        (_with_dims(0, 2**62, 2**62), "more elements than an ONNX file can contain"),
        (_with_dims(4, 3), "does not contain the 12 elements"),
        (dense_weight([1, 2, 3, 4, 5, 6, 7, float("nan")]), "not finite"),
        (dense_weight([1, 2, 3, 4, 5, 6, 7, float("inf")]), "not finite"),
        (TensorProto(name="w", data_type=TensorProto.STRING, dims=[1], string_data=[b"x"]), "is stored as type 8"),
        (sparse_weight([1.0], [8]), "not ascending or not below 8"),
        (sparse_weight([1.0], [-1]), "not ascending or not below 8"),
        (sparse_weight([1.0, 2.0], [3, 3]), "not ascending or not below 8"),
        (sparse_weight([1.0, 2.0], [3, 2]), "not ascending or not below 8"),
        # The difference of neighbours wraps around 64 bits to a positive number twice.
        (sparse_weight([1.0] * 5, [0, 5, -(2**63), -5, 7]), "not ascending or not below 8"),
        (sparse_weight([1.0, 2.0], [3]), "one linear index per value"),
        (sparse_weight([float("nan")], [3]), "not finite"),
        (sparse_weight([1.0], [3], (2**40, 2)), "more elements than an ONNX file can contain"),
        (sparse_weight([1.0], [3], (2**30, 1)), "expand to 1073741824 elements, more than 67109864"),
    ],
)
def test_hostile_weights_are_refused_before_anything_is_allocated(tmp_path, weight, message):
    path = linear_onnx(weight, tmp_path / "hostile.onnx")
    with pytest.raises(InputError, match=message) as refused:
        read_onnx(path)
    assert str(refused.value).startswith(f"{path}: ")


def _lying():
    """A runtime takes what the type says, and a reader may take the tensor."""
    node = helper.make_node("Constant", [], ["y"], value_floats=[7.0, 7.0])
    node.attribute[0].t.CopyFrom(numpy_helper.from_array(np.zeros(2, np.float32)))
    return node


def _of_type(kind):
    node = helper.make_node("Constant", [], ["y"], value_floats=[7.0, 7.0])
    node.attribute[0].type = kind
    return node


def _twice():
    node = helper.make_node("Conv", ["images", "w"], ["y"], group=1)
    node.attribute.add().CopyFrom(helper.make_attribute("group", 2))
    return node


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (helper.make_node("Relu", ["images"], ["y"], domain="evil"), "from the domain 'evil'"),
        (helper.make_node("If", ["c"], ["y"], then_branch=helper.make_graph([], "g", [], [])), "contains a subgraph"),
        (helper.make_node("Conv", ["images", "w"], ["y"], group=0), "attribute 'group' is 0, which is out of range"),
        (
            helper.make_node("MaxPool", ["images"], ["y"], strides=[1, 0]),
            "attribute 'strides' is 0, which is out of range",
        ),
        (helper.make_node("MaxPool", ["images"], ["y"], pads=[2**40] * 4), "attribute 'pads' is 1099511627776"),
        (helper.make_node("Constant", [], ["y"], value=_external()), "stores its data in another file"),
        (helper.make_node("Constant", [], ["y"], sparse_value=sparse_weight([1.0], [0])), "only initializers"),
        (_lying(), "attribute 'value_floats' has the type 6, and values in floats, t"),
        (_of_type(0), "attribute 'value_floats' has the type 0, and values in floats"),
        (_of_type(onnx.AttributeProto.INTS), "has the type 7, and values in floats"),
        (_twice(), "has an attribute twice"),
        (helper.make_node("Constant", ["images"], ["y"], value_float=1.0), "is not one constant"),
        (helper.make_node("Constant", [], ["y"], value_float=1.0, value_int=1), "is not one constant"),
    ],
)
def test_hostile_nodes_are_refused(tmp_path, node, message):
    path = linear_onnx(dense_weight([1.0] * 8), tmp_path / "hostile.onnx", nodes=[node])
    with pytest.raises(InputError, match=message):
        read_onnx(path)


def test_an_initializer_that_is_there_twice_is_refused(small_files):
    model = read_onnx(small_files.dense)
    model.graph.initializer.append(model.graph.initializer[0])
    with pytest.raises(InputError, match=r"x\.onnx: initializer '.*' appears twice"):
        parse_onnx(model.SerializeToString(), "x.onnx")


def test_a_model_with_functions_is_refused(small_files):
    model = read_onnx(small_files.dense)
    model.functions.append(onnx.FunctionProto(name="f", domain=""))
    with pytest.raises(InputError, match="its own functions"):
        parse_onnx(model.SerializeToString(), "x.onnx")


@pytest.mark.parametrize("data", [b"\x00", b"PK\x03\x04", b"not onnx", b"\xff" * 100])
def test_other_files_are_refused(tmp_path, data):
    path = tmp_path / "other.onnx"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"other\.onnx: not an ONNX file"):
        read_onnx(path)


def test_missing_empty_and_special_files_are_refused(tmp_path):
    (tmp_path / "empty.onnx").touch()
    with pytest.raises(InputError, match="it contains no graph"):
        read_onnx(tmp_path / "empty.onnx")
    for path in (tmp_path / "missing.onnx", tmp_path, "/dev/zero"):
        with pytest.raises(InputError, match=r"file not found|is not a regular file"):
            read_onnx(path)


def test_a_file_appears_whole_or_not_at_all(tmp_path, small_files):
    model = read_onnx(small_files.dense)
    with pytest.raises(StorageError, match="cannot be written"):
        write_onnx(model, tmp_path / "missing" / "model.onnx")
    write_onnx(model, tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert (tmp_path / "model.onnx").read_bytes() == small_files.dense.read_bytes()


def test_every_truncation_is_refused(tmp_path, small_files):
    data = small_files.model.read_bytes()
    path = tmp_path / "truncated.onnx"
    generator = random.Random(0)
    for length in [1, 2, len(data) - 1, *(generator.randrange(len(data)) for _ in range(60))]:
        path.write_bytes(data[:length])
        with pytest.raises(InputError, match=r"truncated\.onnx"):
            OnnxRuntimeEngine(path, threads=1)


_edits = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(["set", "insert", "delete"]),
        st.binary(min_size=1, max_size=4),
    ),
    min_size=1,
    max_size=4,
)


@settings(
    max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(edits=_edits, sparse=st.booleans())
def test_a_damaged_file_is_refused_or_still_an_engine(tmp_path, small_files, edits, sparse):
    data = bytearray((small_files.model if sparse else small_files.dense).read_bytes())
    for place, kind, content in edits:
        position = int(place * len(data))
        end = position if kind == "insert" else position + len(content)
        data[position:end] = b"" if kind == "delete" else content
    path = tmp_path / "damaged.onnx"
    path.write_bytes(data)
    try:
        engine = OnnxRuntimeEngine(path, threads=1)
        if engine.spec.input_shape == (1, 8, 8):
            assert engine.logits(random_images(2, (1, 8, 8))).shape == (2, engine.spec.classes)
    except InputError as refused:
        assert str(path) in str(refused)


def test_names_that_are_not_text_are_refused(tmp_path, small_files):
    content = small_files.model.read_bytes()
    assert b"Conv" in content
    path = tmp_path / "bytes.onnx"
    path.write_bytes(content.replace(b"Conv", b"Con\xff"))
    with pytest.raises(InputError, match="a name in it is not UTF-8 text"):
        read_onnx(path)
