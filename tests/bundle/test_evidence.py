from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from tests.bundle.folders import contents, evidence, record
from tscnc_deploy.bundle.evidence_files import parse_evidence, parse_record
from tscnc_deploy.errors import BundleError
from tscnc_deploy.record import BuildRecord

MODEL = contents().model


def written(tmp_path):
    evidence().write(tmp_path)
    arrays, told = ((tmp_path / "evidence" / name).read_bytes() for name in ("evidence.safetensors", "evidence.json"))
    return arrays, parse_record(told)


def arrays():
    images = evidence().images
    return {"images": images, "labels": np.array([0, 1, 2, 0])}


def test_gives_back_what_was_written(tmp_path):
    expected, found = evidence(), parse_evidence(*written(tmp_path), MODEL)
    assert np.array_equal(found.images, expected.images)
    assert found.images.dtype == np.float32
    assert found.labels.tolist() == [0, 1, 2, 0]
    assert np.array_equal(found.adversarial["onnx-cpu"], expected.adversarial["onnx-cpu"])
    assert found.outcomes["onnx-cpu.pgd-20"].tolist() == [True, False, True, True]
    assert found.outcomes["onnx-cpu.pgd-20"].dtype == np.bool_
    assert found.record == record()
    assert list(found.record.seconds) == ["verify", "export"]


def test_flags_are_kept_as_uint8(tmp_path):
    tensors = safetensors.numpy.load(written(tmp_path)[0])
    assert sorted(tensors) == ["adversarial.onnx-cpu", "images", "labels", "outcome.onnx-cpu.pgd-20"]
    assert tensors["outcome.onnx-cpu.pgd-20"].tolist() == [1, 0, 1, 1]
    assert tensors["outcome.onnx-cpu.pgd-20"].dtype == np.uint8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((4, 1, 8, 8))}, "'images' must be float32 [N, C, H, W], not float64 [4, 1, 8, 8]"),
        ({"images": np.float32(0)}, "'images' must be float32 [N, C, H, W], not float32 []"),
        ({"images": np.full((4, 1, 8, 8), 1.5, np.float32)}, "'images' has values outside [0, 1]"),
        ({"images": np.full((4, 1, 8, 8), np.nan, np.float32)}, "'images' has values outside [0, 1]"),
        (
            {"images": np.zeros((4, 3, 8, 8), np.float32)},
            "'images' holds images of [3, 8, 8], the model takes [1, 8, 8]",
        ),
        ({"labels": np.array([0, 1, 2])}, "'labels' must be int64 [4], not int64 [3]"),
        ({"labels": np.array([0, 1, 2, 3])}, "'labels' names a class outside 0 to 2"),
        ({"labels": np.array([0, 1, 2, -1])}, "'labels' names a class outside 0 to 2"),
        ({"adversarial.x": np.zeros((3, 1, 8, 8), np.float32)}, "'adversarial.x' has the shape [3, 1, 8, 8], images"),
        ({"outcome.x": np.array([0, 1, 2, 0], np.uint8)}, "'outcome.x' must hold 0 and 1 as uint8"),
        ({"outcome.x": np.array([0, 1, 1], np.uint8)}, "'outcome.x' must be bool [4], not bool [3]"),
        ({"outcome.x": np.zeros(4, np.float16)}, "'outcome.x' must hold 0 and 1 as uint8, not float16"),
        ({"\u202e": np.zeros(1)}, "'\\u202e' is not expected here"),
    ],
)
def test_names_the_array_that_is_wrong(change, message):
    data = safetensors.numpy.save({name: np.asarray(array) for name, array in (arrays() | change).items()})
    with pytest.raises(BundleError) as caught:
        parse_evidence(data, record(), MODEL)
    assert str(caught.value).startswith("evidence/evidence.safetensors: the array ")
    assert message in str(caught.value)


def test_images_and_labels_must_be_there():
    with pytest.raises(BundleError, match="has no array labels"):
        parse_evidence(safetensors.numpy.save({"images": arrays()["images"]}), record(), MODEL)


def test_a_record_is_one_json_object():
    with pytest.raises(BundleError, match=r"evidence/evidence.json is not JSON: Expecting value at line 1"):
        parse_record(b"")
    with pytest.raises(BundleError, match=r"evidence/evidence.json is not a JSON object"):
        parse_record(b"[]")


def test_a_record_must_fit_its_schema():
    with pytest.raises(BundleError, match="the record of the build has a wrong entry: name: Field required"):
        parse_record(b"{}")
    with pytest.raises(BundleError, match=r"has a schema that this version does not know: it is 'tscnc-record/9'"):
        parse_record(b'{"schema": "tscnc-record/9"}')


def test_a_record_of_many_values_is_refused_before_it_is_parsed():
    with pytest.raises(BundleError, match=r"evidence/evidence.json holds about 1500001 values; at most 524288"):
        parse_record(b"[" + b"{}," * 750_000)


def test_what_is_not_finite_in_the_record_is_written_as_null(tmp_path):
    told = record().to_json() | {"recipe": {"train": {"lr": float("inf")}}, "seconds": {"train": float("nan")}}
    holed = BuildRecord.from_json(told)
    dataclasses.replace(evidence(), record=holed).write(tmp_path)
    read = parse_record((tmp_path / "evidence" / "evidence.json").read_bytes())
    assert (read.recipe, read.seconds) == ({"train": {"lr": None}}, {"train": None})


# A header that declares ten gigabytes, and dtypes that numpy does not have.
HEADERS = [
    b'{"images":{"dtype":"F32","shape":[2500000000],"data_offsets":[0,10000000000]}}',
    b'{"images":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}',
    b'{"images":{"dtype":"F32","shape":[0,99999999999],"data_offsets":[0,0]}}',
    b'{"images":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}',
    b'{"images":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}',
    b'{"images":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}',
    b'{"images":' * 1000,
]


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("body", [b"", b"\0", b"\0\0"])
def test_hostile_headers_are_refused(header, body):
    with pytest.raises(BundleError):
        parse_evidence(len(header).to_bytes(8, "little") + header + body, record(), MODEL)


@given(st.data())
def test_damaged_arrays_are_taken_or_refused(data):
    good = safetensors.numpy.save(arrays() | {"outcome.x": np.zeros(4, np.uint8)})
    start = data.draw(st.integers(0, 300))
    damaged = good[:start] + data.draw(st.binary(max_size=20)) + good[start + data.draw(st.integers(0, 20)) :]
    try:
        parse_evidence(damaged, record(), MODEL)
    except BundleError as error:
        assert str(error).isprintable()
