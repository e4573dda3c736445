from __future__ import annotations

import json
import struct
import tracemalloc

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
