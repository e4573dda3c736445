from __future__ import annotations

import json
import struct

import pytest

from tests.serving.requests import GOOD, VALIDATOR, without_data
from tscnc_deploy.serving.errors import RequestError
from tscnc_deploy.serving.http.codec import parse_body


def test_binary_data_share_the_memory_of_the_body():
    request = parse_body(
        (text := json.dumps(without_data(parameters={"binary_data_size": 8})).encode()) + struct.pack("<2f", 0.25, 1),
        str(len(text)),
        VALIDATOR,
    )
    assert request.images.tolist() == [[[[0.25, 1.0]]]]
    assert not request.images.flags.owndata


@pytest.mark.parametrize(
    ("size", "binary", "words"),
    [
        (8, b"\0" * 7, "binary_data_size is 8, but 7 bytes follow"),
        (7, b"\0" * 7, r"7 bytes of data, but FP32 \[1, 1, 1, 2\] needs 8"),
        (2**63, b"\0" * 8, "but 8 bytes follow"),
        (-8, b"\0" * 8, "but 8 bytes follow"),
        ("8", b"\0" * 8, "binary_data_size is '8'"),
        (None, b"\0" * 8, "no input has the parameter binary_data_size"),
    ],
)
def test_lies_about_sizes_are_rejected(size, binary, words):
    text = json.dumps(without_data(parameters={} if size is None else {"binary_data_size": size})).encode()
    with pytest.raises(RequestError, match=words):
        parse_body(text + binary, str(len(text)), VALIDATOR)


@pytest.mark.parametrize("length", ["-1", "1e3", "+5", " 5", "1_0", "", "99999", "9" * 40, "٣"])
def test_a_wrong_length_of_the_json_is_rejected(length):
    with pytest.raises(RequestError, match=r"Inference-Header-Content-Length|not JSON"):
        parse_body(json.dumps({"inputs": [GOOD]}).encode(), length, VALIDATOR)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"[]", "must be a JSON object"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 1000, "not JSON"),
        (b"[" * 50_000, "has 50000 lists, but a request for this model has at most 1036"),
        (b"[" * 100_000, "has 100000 bytes, but at most 65728 are allowed"),
        (b"{}", "inputs must contain one tensor, not 0"),
        (b'{"inputs": {}}', "inputs must be a list"),
        (b'{"inputs": [1]}', "inputs must be a list of JSON objects"),
        (b'{"inputs": [{}, {}]}', "one tensor, not 2"),
        (b'{"outputs": [{}]}', "inputs must contain one"),
    ],
)
def test_bodies_of_another_form_are_rejected(body, words):
    with pytest.raises(RequestError, match=words):
        parse_body(body, None, VALIDATOR)
