from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import torch

pytest.importorskip("orjson", reason="needs the extra: pip install 'tscnc-deploy[serve]'")

from tscnc_deploy.data.splits import Split
from tscnc_deploy.serving.errors import RequestError
from tscnc_deploy.serving.http.codec import parse_body
from tscnc_deploy.serving.validation import InputValidator

DOOR = InputValidator((1, 1, 2), max_images=4)
GOOD = {"name": "images", "datatype": "FP32", "shape": [1, 1, 1, 2], "data": [0, 1]}


def parse(tensor=None, binary=b"", length="", **document):
    """Parses a request of one tensor; with binary data, the length of its JSON goes into the header."""
    text = json.dumps({"inputs": [GOOD | (tensor or {})]} | document).encode()
    header = length or (str(len(text)) if binary else None)
    return parse_body(text + binary, header, DOOR)


def without_data(**more):
    tensor = {key: value for key, value in GOOD.items() if key != "data"} | more
    return {"inputs": [tensor]}


@pytest.mark.parametrize("data", [[0, 0.5], [[0, 0.5]], [[[[0, 0.5]]]]])
def test_numbers_may_be_flat_or_nested(data):
    if data == [[0, 0.5]]:
        with pytest.raises(RequestError, match="flat or nested like the shape"):
            parse({"data": data})
    else:
        assert parse({"data": data}).images.tolist() == [[[[0, 0.5]]]]


def test_uint8_is_divided_by_255():
    images = parse({"datatype": "UINT8", "data": [51, 255]}).images
    assert images.dtype == np.float32
    np.testing.assert_allclose(images.reshape(-1), [0.2, 1.0], rtol=1e-6)
    assert images.max() <= 1


def test_every_uint8_pixel_becomes_the_float_that_was_evaluated():
    """Bit by bit what a data set's split gives, by every way in which a request can carry the pixels."""
    validator = InputValidator((1, 16, 16), 1)
    pixels = np.arange(256, dtype=np.uint8)
    evaluated, _ = Split(torch.from_numpy(pixels.reshape(1, 1, 16, 16)), torch.zeros(1).long()).batch(torch.tensor([0]))
    header = validator.header("images", "UINT8", [1, 1, 16, 16])
    served = [
        validator.from_bytes(header, pixels.tobytes()),
        validator.from_numbers(header, pixels.tolist()),
        validator.from_array(header, pixels.astype(np.float32)),
    ]
    for images in served:
        assert images.dtype == np.float32
        assert images.tobytes() == evaluated.numpy().tobytes()


def test_binary_data_share_the_memory_of_the_body():
    request = parse_body(
        (text := json.dumps(without_data(parameters={"binary_data_size": 8})).encode()) + struct.pack("<2f", 0.25, 1),
        str(len(text)),
        DOOR,
    )
    assert request.images.tolist() == [[[[0.25, 1.0]]]]
    assert not request.images.flags.owndata


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        ({"name": "input"}, "one input, 'images'; the request names 'input'"),
        ({"name": None}, "the request names None"),
        ({"datatype": "FP64"}, "datatype must be FP32"),
        ({"datatype": ["FP32"]}, "datatype must be FP32"),
        ({"shape": [1, 1, 2]}, r"shape must be \[N, 1, 1, 2\]"),
        ({"shape": [0, 1, 1, 2]}, "N from 1 up"),
        ({"shape": [-1, 1, 1, 2]}, "N from 1 up"),
        ({"shape": [1.0, 1, 1, 2]}, "shape must be"),
        ({"shape": [True, 1, 1, 2]}, "shape must be"),
        ({"shape": "1112"}, "shape must be"),
        ({"shape": [2**62, 1, 1, 2]}, "images in one request; at most 4"),
        ({"shape": [5, 1, 1, 2]}, "5 images in one request; at most 4"),
        ({"data": [0]}, "1 values in data"),
        ({"data": [0, 1, 1]}, "3 values in data"),
        ({"data": "01"}, "no list of values"),
        ({"data": ["0", "1"]}, "must be 2 numbers"),
        ({"data": [None, 1]}, "must be 2 numbers"),
        ({"data": [True, False]}, "must be 2 numbers"),
        ({"data": [0, {}]}, "must be 2 numbers"),
        ({"data": [[0], 1]}, "must be 2 numbers"),
        ({"data": [[[[0, 1], [0]]]]}, "must be 2 numbers"),
        ({"data": [0, 10**400]}, "not JSON|first that does not is at"),
        ({"data": [0, 1e300]}, r"first that does not is at \[0, 0, 0, 1\]: inf"),
        ({"data": [0, 1.5]}, r"first that does not is at \[0, 0, 0, 1\]: 1.5"),
        ({"data": [-0.1, 1]}, r"first that does not is at \[0, 0, 0, 0\]: -0.1"),
        ({"datatype": "UINT8", "data": [0, 256]}, r"from 0 to 255; the first that does not is at \[0, 0, 0, 1\]: 256"),
        ({"datatype": "UINT8", "data": [0.5, 1]}, "must be whole"),
        ({"parameters": []}, "parameters must be a JSON object"),
        ({"parameters": {"binary_data_size": 8}}, "binary_data_size is 8, but 0 bytes follow"),
        ({"parameters": {"shared_memory_region": "a"}}, "shared memory is not supported"),
    ],
)
def test_bad_tensors_are_refused_by_name(tensor, words):
    with pytest.raises(RequestError, match=words):
        parse(tensor)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 1.0001])
def test_bad_values_in_binary_data_are_named(value):
    size = {"parameters": {"binary_data_size": 16}, "shape": [2, 1, 1, 2]}
    text = json.dumps(without_data(**size)).encode()
    with pytest.raises(RequestError, match=r"input 'images'.*at \[1, 0, 0, 1\]"):
        parse_body(text + struct.pack("<4f", 0, 0, 1, value), str(len(text)), DOOR)


@pytest.mark.parametrize(
    ("size", "binary", "words"),
    [
        (8, b"\0" * 7, "binary_data_size is 8, but 7 bytes follow"),
        (7, b"\0" * 7, r"7 bytes of data, but FP32 \[1, 1, 1, 2\] takes 8"),
        (2**63, b"\0" * 8, "but 8 bytes follow"),
        (-8, b"\0" * 8, "but 8 bytes follow"),
        ("8", b"\0" * 8, "binary_data_size is '8'"),
        (None, b"\0" * 8, "no input has the parameter binary_data_size"),
    ],
)
def test_lies_about_sizes_are_refused(size, binary, words):
    text = json.dumps(without_data(parameters={} if size is None else {"binary_data_size": size})).encode()
    with pytest.raises(RequestError, match=words):
        parse_body(text + binary, str(len(text)), DOOR)


@pytest.mark.parametrize("length", ["-1", "1e3", "+5", " 5", "1_0", "", "99999", "9" * 40, "٣"])
def test_a_wrong_length_of_the_json_is_refused(length):
    with pytest.raises(RequestError, match=r"Inference-Header-Content-Length|not JSON"):
        parse_body(json.dumps({"inputs": [GOOD]}).encode(), length, DOOR)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"[]", "must be a JSON object"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"{}", "inputs must hold one tensor, not 0"),
        (b'{"inputs": {}}', "inputs must be a list"),
        (b'{"inputs": [1]}', "inputs must be a list of JSON objects"),
        (b'{"inputs": [{}, {}]}', "one tensor, not 2"),
        (b'{"outputs": [{}]}', "inputs must hold one"),
    ],
)
def test_bodies_of_another_form_are_refused(body, words):
    with pytest.raises(RequestError, match=words):
        parse_body(body, None, DOOR)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"id": 7}, "id must be a text"),
        ({"id": "x" * 2000}, "id must be a text"),
        ({"parameters": {"timeout": -1}}, "timeout must be whole microseconds"),
        ({"parameters": {"timeout": "1"}}, "timeout must be whole microseconds"),
        ({"parameters": {"binary_data_output": 1}}, "binary_data_output must be true or false"),
        ({"outputs": [{"name": "probabilities"}]}, "one output, 'logits'"),
        ({"outputs": [{"name": "logits"}] * 2}, "asked for 2 times"),
        ({"outputs": [{"name": "logits", "parameters": {"classification": "3"}}]}, "number of classes"),
        ({"outputs": [{"name": "logits", "parameters": {"binary_data": None}}]}, "binary_data must be true or false"),
    ],
)
def test_bad_parameters_are_refused(document, words):
    with pytest.raises(RequestError, match=words):
        parse(**document)


def test_what_a_request_may_say():
    request = parse(
        id="seven",
        parameters={"timeout": 1500},
        outputs=[{"name": "logits", "parameters": {"classification": 2, "binary_data": True}}],
    )
    assert (request.id, request.timeout, request.output.top, request.output.binary) == ("seven", 0.0015, 2, True)


def test_the_longest_body_follows_from_the_largest_batch():
    assert InputValidator((1, 8, 8), 16).max_body == 16 * 64 * 24 + 65536
    assert InputValidator((3, 224, 224), 256).max_body == 256 * 3 * 224 * 224 * 4 + 65536
    assert InputValidator((3, 224, 224), 64).max_body == (64 << 20) + 65536
