"""The size of a request in memory, told from its bytes before they are parsed.

A parsed message takes about as much memory as its bytes where these are the values of a tensor, but an empty tensor or
parameter of two bytes becomes an object of a hundred. So a request may have as many bytes of values as the model's
largest one, and few others.

Source: Protocol Buffers, "Encoding".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tscnc_deploy.open_inference import messages
from tscnc_deploy.serving.errors import RequestError

MAX_OTHER = 64 << 10
"""Bytes of a ModelInferRequest that are not values of tensors, at most."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}
_UNKNOWN = MAX_OTHER + 1  # groups, which nobody writes any more


def _number(descriptor: Any, field: str) -> int:
    number: int = descriptor.fields_by_name[field].number
    return number


# What a field holds: None for values, otherwise the fields inside. All others count whole.
_Fields = Mapping[int, "_Fields | None"]
_WHOLE = messages.ModelInferRequest.DESCRIPTOR
_TENSOR = _WHOLE.fields_by_name["inputs"].message_type
_VALUES = _TENSOR.fields_by_name["contents"].message_type
_CONTENTS: _Fields = {_number(_VALUES, "fp32_contents"): None, _number(_VALUES, "uint_contents"): None}
_REQUEST: _Fields = {
    _number(_WHOLE, "raw_input_contents"): None,
    _number(_WHOLE, "inputs"): {_number(_TENSOR, "contents"): _CONTENTS},
}


def check_infer_request(data: bytes) -> None:
    """Refuses a ModelInferRequest that would take much more memory than its bytes.

    What is not a message is left to the parser, which refuses it.

    Raises:
        RequestError: It has more than `MAX_OTHER` bytes besides the values of tensors.
    """
    other, open_parts = 0, [(0, len(data), _REQUEST)]
    while open_parts:
        at, end, fields = open_parts.pop()
        while at < end:
            start = at
            tag, at = _varint(data, at, end)
            kind = tag & 7
            if kind == _BYTES:
                length, at = _varint(data, at, end)
                length = min(length, end - at)
                other += at - start
                inside = fields.get(tag >> 3, {})
                if inside:
                    open_parts.append((at, at + length, inside))
                elif inside is not None:
                    other += length
                at += length
            else:
                at = _varint(data, at, end)[1] if kind == _VARINT else at + _FIXED.get(kind, _UNKNOWN)
                other += at - start
            if other > MAX_OTHER:
                msg = f"the request has more than {MAX_OTHER} bytes besides the values of the tensor"
                raise RequestError(msg)


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """An integer and the place after it; at the end of the data, whatever was read."""
    value, shift = 0, 0
    while at < end and shift < 64:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            break
    return value, at
