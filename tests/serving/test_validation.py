from __future__ import annotations

import json
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.serving.requests import VALIDATOR, parse, without_data
from tscnc_deploy.data.splits import Split
from tscnc_deploy.serving.errors import RequestError
from tscnc_deploy.serving.http.codec import parse_body
from tscnc_deploy.serving.validation import InputValidator


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


@pytest.mark.parametrize("nested", [False, True])
def test_a_long_string_among_the_numbers_is_refused_before_an_array_is_made(nested):
    validator = InputValidator((1, 16, 16), 4)
    header = validator.header("images", "FP32", [4, 1, 16, 16])
    numbers = ["0"] * 1023 + ["x" * 10_000]
    if nested:
        rows = [numbers[start : start + 16] for start in range(0, 1024, 16)]
        numbers = [[rows[start : start + 16]] for start in range(0, 64, 16)]
    tracemalloc.start()
    try:
        with pytest.raises(RequestError, match="data must be 1024 numbers"):
            validator.from_numbers(header, numbers)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000  # as an array of strings they take 41 MB


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        ({"name": "input"}, "one input, 'images'; the request names 'input'"),
        ({"name": None}, "the request names None"),
        ({"datatype": "FP64"}, "datatype must be FP32"),
        ({"datatype": ["FP32"]}, "datatype must be FP32"),
        ({"shape": [1, 1, 2]}, r"shape must be \[N, 1, 1, 2\]"),
        ({"shape": [0, 1, 1, 2]}, "N at least 1"),
        ({"shape": [-1, 1, 1, 2]}, "N at least 1"),
        ({"shape": [1.0, 1, 1, 2]}, "shape must be"),
        ({"shape": [True, 1, 1, 2]}, "shape must be"),
        ({"shape": "1112"}, "shape must be"),
        ({"shape": [2**62, 1, 1, 2]}, "images in one request, but at most 4"),
        ({"shape": [5, 1, 1, 2]}, "5 images in one request, but at most 4"),
        ({"data": [0]}, "1 values in data"),
        ({"data": [0, 1, 1]}, "3 values in data"),
        ({"data": "01"}, "must be a list of 2 numbers"),
        ({"data": ["0", "1"]}, "must be 2 numbers"),
        ({"data": [None, 1]}, "must be 2 numbers"),
        ({"data": [True, False]}, "must be 2 numbers"),
        ({"data": [True, 0.5]}, "must be 2 numbers"),
        ({"data": [0, {}]}, "must be 2 numbers"),
        ({"data": [[0], 1]}, "must be 2 numbers"),
        ({"data": [[[[0, 1], [0]]]]}, "must be 2 numbers"),
        ({"data": [0, 10**400]}, "not JSON|the value at"),
        ({"data": [0, 1e300]}, r"the value at \[0, 0, 0, 1\] is inf"),
        ({"data": [0, 1.5]}, r"the value at \[0, 0, 0, 1\] is 1.5"),
        ({"data": [-0.1, 1]}, r"the value at \[0, 0, 0, 0\] is -0.1"),
        ({"datatype": "UINT8", "data": [0, 256]}, r"from 0 to 255, but the value at \[0, 0, 0, 1\] is 256"),
        ({"datatype": "UINT8", "data": [0.5, 1]}, "must be integers"),
        ({"parameters": []}, "parameters must be a JSON object"),
        ({"parameters": {"binary_data_size": 8}}, "binary_data_size is 8, but 0 bytes follow"),
        ({"parameters": {"shared_memory_region": "a"}}, "shared memory is not supported"),
    ],
)
def test_bad_tensors_are_rejected_by_name(tensor, words):
    with pytest.raises(RequestError, match=words):
        parse(tensor)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 1.0001])
def test_bad_values_in_binary_data_are_named(value):
    size = {"parameters": {"binary_data_size": 16}, "shape": [2, 1, 1, 2]}
    text = json.dumps(without_data(**size)).encode()
    with pytest.raises(RequestError, match=r"input 'images'.*at \[1, 0, 0, 1\]"):
        parse_body(text + struct.pack("<4f", 0, 0, 1, value), str(len(text)), VALIDATOR)


def test_the_longest_body_follows_from_the_largest_batch():
    assert InputValidator((1, 8, 8), 16).max_body == 16 * 64 * 24 + 65536
    assert InputValidator((3, 224, 224), 256).max_body == 256 * 3 * 224 * 224 * 4 + 65536
    assert InputValidator((3, 224, 224), 64).max_body == (64 << 20) + 65536


SMALL = InputValidator((1, 8, 8), 16)


def document(data: bytes, more: bytes = b"") -> bytes:
    return b'{"inputs": [{"name": "images", "datatype": "FP32", "shape": [16, 1, 8, 8], "data": %b}]%b}' % (data, more)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (document(b"[" + b"{}," * 20_000 + b"{}]"), "objects"),
        (document(b"[" + b"[]," * 20_000 + b"[]]"), "lists"),
        (document(b"[" + b'"a",' * 20_000 + b'"a"]'), "quotation marks"),
        (document(b"[" + b"0," * 20_000 + b"0]"), "commas"),
        (document(b"[" * 40_000), "lists"),
        (document(b"[0]", b', "x": {' + b'"":{' * 10_000 + b"}" * 10_001), "quotation marks"),
        (b" " * 100_000, "bytes"),
    ],
)
def test_json_with_more_values_than_any_valid_request_is_refused_before_it_is_parsed(body, words):
    tracemalloc.start()
    try:
        with pytest.raises(RequestError, match=f"has [0-9]+ {words}"):
            parse_body(body, None, SMALL)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000


@pytest.mark.parametrize("indent", [None, 0])
def test_the_largest_valid_json_is_accepted_flat_and_nested(indent):
    images = np.random.default_rng(0).random((16, 1, 8, 8), np.float32)
    for data in (images.reshape(-1).tolist(), images.tolist()):
        body = document(json.dumps(data, indent=indent, separators=(",", ":") if indent is None else None).encode())
        assert parse_body(body, None, SMALL).images.tolist() == images.tolist()


# The peak of a process's memory does not fall again, so each is measured in a process of its own, in bytes per byte of
# the largest batch.
MEASURED = """
import resource, sys
import numpy as np
from tscnc_deploy.serving.errors import RequestError
from tscnc_deploy.serving.http.codec import parse_body
from tscnc_deploy.serving.validation import InputValidator

validator = InputValidator((3, 64, 64), 64)
head = b'{"inputs": [{"name": "images", "datatype": "FP32", "shape": [64, 3, 64, 64], "data": '
values = 64 * 3 * 64 * 64
data = {
    "numbers": lambda: b"[" + b",".join([b"0.12345678"] * values) + b"]",
    "objects": lambda: b"[" + b",".join([b"{}"] * values) + b"]",
    "lists": lambda: b"[" + b",".join([b"[]"] * values) + b"]",
    "strings": lambda: b"[" + b",".join([b'"a"'] * values) + b"]",
    "long string": lambda: b"[" + b",".join([b'"' + b"a" * 1000000 + b'"', *[b'"0"'] * values]) + b"]",
}[sys.argv[1]]()
body = head + data + b"}]}"
before = resource.getrusage(resource.RUSAGE_SELF)
try:
    parse_body(body, None, validator)
    print("accepted")
except RequestError:
    print("refused")
after = resource.getrusage(resource.RUSAGE_SELF)
print((after.ru_maxrss - before.ru_maxrss) * 1024 / (values * 4), after.ru_utime - before.ru_utime)
"""


@pytest.mark.parametrize(
    ("what", "outcome", "most"),
    [
        ("numbers", "accepted", 20),
        ("objects", "refused", 1),
        ("lists", "refused", 1),
        ("strings", "refused", 1),
        ("long string", "refused", 1),
    ],
)
def test_json_takes_a_small_multiple_of_the_memory_of_the_largest_batch(what, outcome, most):
    command = [sys.executable, "-c", MEASURED, what]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    found, figures = done.stdout.splitlines()
    multiple, seconds = map(float, figures.split())
    assert found == outcome
    assert multiple < most
    assert seconds < 2
