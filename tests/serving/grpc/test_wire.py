from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tscnc_deploy.open_inference import messages
from tscnc_deploy.serving.errors import RequestError
from tscnc_deploy.serving.grpc.wire import MAX_OTHER, check_infer_request

MANY = 1 << 20


def request(**tensor):
    """With one input."""
    message = messages.ModelInferRequest(model_name="tiny", id="7")
    message.parameters["timeout"].int64_param = 5
    message.inputs.add(name="images", datatype="FP32", shape=[4, 1, 8, 8], **tensor)
    return message


def contents(**values):
    return request().inputs[0].contents.__class__(**values)


@pytest.mark.parametrize(
    "message",
    [
        messages.ModelInferRequest(),
        request(contents=contents(fp32_contents=np.zeros(MANY))),
        request(contents=contents(uint_contents=np.full(MANY, 255))),
        messages.ModelInferRequest(inputs=request().inputs, raw_input_contents=[bytes(4 * MANY)]),
    ],
)
def test_values_of_tensors_are_not_limited_here(message):
    check_infer_request(message.SerializeToString())


@pytest.mark.parametrize(
    "data",
    [
        b"\x2a\x00" * MANY,  # empty tensors
        b"\x32\x00" * MANY,  # empty outputs
        b"\x22\x00" * MANY,  # empty parameters
        b"\x3a\x00" * MANY,  # empty raw contents
        b"\x08\x01" * MANY,  # a field that the message does not have
        b"\x0b" * MANY,  # groups, which nobody writes any more
        messages.ModelInferRequest(model_name="x" * MANY).SerializeToString(),
        request(contents=contents(bytes_contents=[b""] * MANY)).SerializeToString(),
        # A byte each, and four or eight in memory.
        request(contents=contents(int64_contents=np.zeros(MANY, int))).SerializeToString(),
        request(contents=contents(bool_contents=[True] * MANY)).SerializeToString(),
        b"\x2a\x87\x80\x40\x1a\x83\x80\x40" + bytes(MANY + 3),  # sizes of a shape
    ],
)
def test_bytes_that_become_large_in_memory_are_refused(data):
    with pytest.raises(RequestError, match=f"more than {MAX_OTHER} bytes besides the values"):
        check_infer_request(data)


@given(st.binary(max_size=200))
def test_any_bytes_come_to_an_end(data):
    try:
        check_infer_request(data)
    except RequestError:
        # Such as a group.
        assert any(byte & 7 in (3, 4, 6, 7) for byte in data)


def test_a_message_that_is_cut_off_is_left_to_the_parser():
    data = request(contents=contents(fp32_contents=np.zeros(100))).SerializeToString()
    for length in range(len(data)):
        check_infer_request(data[:length])
