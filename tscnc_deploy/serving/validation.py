"""Validates input tensors: first name, datatype and shape, before any memory is allocated, then the values."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tscnc_deploy.engines.base import Array
from tscnc_deploy.open_inference import INPUT
from tscnc_deploy.pixels import to_unit_range
from tscnc_deploy.serving.errors import Reason, RequestError
from tscnc_deploy.text import escaped

_DTYPES: dict[str, np.dtype[Any]] = {"FP32": np.dtype("<f4"), "UINT8": np.dtype("u1")}
_MAX_JSON = 64 << 20
# Longest float32 as a JSON number, with its comma.
_JSON_CHARACTERS = 24
# Bytes of a request besides the data of the tensor, and most values of each kind.
_JSON_OVERHEAD = 1 << 16
_MAX_OTHERS = 1 << 10


@dataclass(frozen=True)
class Header:
    """What a request says about its input tensor.

    Attributes:
        datatype: "FP32", values in [0, 1], or "UINT8", pixels from 0 to 255.
        shape: (N, C, H, W).
    """

    datatype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Length of the tensor in binary form."""
        return prod(self.shape) * _DTYPES[self.datatype].itemsize


@dataclass(frozen=True)
class InputValidator:
    """Turns input tensors into images that the engine accepts, or rejects them.

    Attributes:
        input_shape: (C, H, W) of one image.
        max_images: Largest number of images in a request.
    """

    input_shape: tuple[int, int, int]
    max_images: int

    @property
    def max_body(self) -> int:
        """Bytes that a request with `max_images` images needs, as JSON up to 64 MiB, otherwise in binary form."""
        return max(self.max_json, self._values * 4 + _JSON_OVERHEAD)

    @property
    def max_json(self) -> int:
        """Bytes that a request with `max_images` images needs as JSON, at most 64 MiB, and some for the rest."""
        return min(self._values * _JSON_CHARACTERS, _MAX_JSON) + _JSON_OVERHEAD

    @property
    def _values(self) -> int:
        return self.max_images * prod(self.input_shape)

    def check_json(self, body: bytes | bytearray, length: int, limit: int | None = None) -> None:
        """Rejects JSON whose values would take much more memory than those of the largest request; parses nothing.

        A number takes at most 32 bytes as a Python object in a list, but an empty object 72 and a string 50 and more,
        for three or four characters of JSON.

        Args:
            body: Begins with the JSON.
            length: Number of bytes of the JSON.
            limit: Largest number of them; None uses `max_json`.

        Raises:
            RequestError: It is longer, or has more strings, objects, lists or values, than any valid request.
        """
        limit = limit or self.max_json
        if length > limit:
            msg = f"the JSON has {length} bytes, but at most {limit} are allowed; send the data in binary form"
            raise RequestError(msg, Reason.TOO_LARGE)
        lists = self.max_images * (1 + self.input_shape[0] * (1 + self.input_shape[1]))
        for mark, what, most in (
            (b'"', "quotation marks", _MAX_OTHERS),
            (b"{", "objects", _MAX_OTHERS),
            (b"[", "lists", lists + _MAX_OTHERS),
            (b",", "commas", self._values + lists + _MAX_OTHERS),
        ):
            if (count := body.count(mark, 0, length)) > most:
                msg = f"the body has {count} {what}, but a request for this model has at most {most}"
                raise RequestError(msg)

    def header(self, name: object, datatype: object, shape: object) -> Header:
        """Validates what a request says about its input; allocates nothing.

        Args:
            name: Name of the tensor.
            datatype: Datatype of its values.
            shape: A list of integers.

        Raises:
            RequestError: Name, datatype or shape do not match the model, or there are too many images.
        """
        if name != INPUT:
            msg = f"the model has one input, {INPUT!r}; the request names {shown(name)}"
            raise RequestError(msg)
        if not isinstance(datatype, str) or datatype not in _DTYPES:
            msg = (
                f"input {INPUT!r}: datatype must be FP32 (values in [0, 1]) or UINT8 (0 to 255), not {shown(datatype)}"
            )
            raise RequestError(msg)
        sizes = _sizes(shape)
        if len(sizes) != 4 or sizes[1:] != self.input_shape or sizes[0] < 1:
            expected = ", ".join(map(str, self.input_shape))
            msg = f"input {INPUT!r}: shape must be [N, {expected}] with N at least 1, not {shown(shape)}"
            raise RequestError(msg)
        if sizes[0] > self.max_images:
            msg = f"input {INPUT!r}: {sizes[0]} images in one request, but at most {self.max_images} are allowed"
            raise RequestError(msg)
        return Header(datatype, sizes)

    def from_bytes(self, header: Header, data: bytes | memoryview) -> Array:
        """Images from row-major little-endian bytes; FP32 images share the memory of `data`.

        Raises:
            RequestError: The number of bytes does not match the shape, or values are outside [0, 1].
        """
        if len(data) != header.bytes:
            msg = (
                f"input {INPUT!r}: {len(data)} bytes of data, but {header.datatype} {list(header.shape)} needs "
                f"{header.bytes}"
            )
            raise RequestError(msg)
        return _images(np.frombuffer(data, _DTYPES[header.datatype]).reshape(header.shape), header)

    def from_numbers(self, header: Header, numbers: object) -> Array:
        """Images from a list of numbers in JSON, flat or nested like the shape.

        Raises:
            RequestError: `numbers` is not a list of numbers, does not match the shape, or is out of range.
        """
        count = prod(header.shape)
        if not isinstance(numbers, list):
            msg = f"input {INPUT!r}: data must be a list of {count} numbers"
            raise RequestError(msg)
        nested = bool(numbers) and isinstance(numbers[0], list)
        if not nested and len(numbers) != count:
            msg = f"input {INPUT!r}: {len(numbers)} values in data, but {list(header.shape)} needs {count}"
            raise RequestError(msg)
        # Checked before NumPy allocates anything: an array of strings has the length of the longest in every element.
        array = _array(numbers) if _are_numbers(numbers, header.shape if nested else (count,)) else None
        if array is None or array.dtype.kind not in "iuf":
            msg = f"input {INPUT!r}: data must be {count} numbers, flat or nested like the shape {list(header.shape)}"
            raise RequestError(msg)
        return self.from_array(header, array)

    def from_array(self, header: Header, array: NDArray[Any]) -> Array:
        """Images from an array of numbers of any dtype, with as many values as the header says.

        Raises:
            RequestError: Values are outside [0, 1], or for UINT8 not integers from 0 to 255.
        """
        array = array.reshape(header.shape)
        if header.datatype == "UINT8":
            _reject_where((array >= 0) & (array <= 255) & (array % 1 == 0), array, "must be integers from 0 to 255")
        with np.errstate(over="ignore"):  # becomes infinity, which is rejected with its index
            return _images(array.astype(_DTYPES[header.datatype]), header)


def _images(values: NDArray[Any], header: Header) -> Array:
    if header.datatype == "UINT8":
        return to_unit_range(values)
    # NaN compares false with everything, so this rejects it too.
    _reject_where((values >= 0) & (values <= 1), values, "must be in [0, 1]")
    return values


def _reject_where(good: NDArray[np.bool_], values: NDArray[Any], rule: str) -> None:
    if good.all():
        return
    index = np.unravel_index(int(good.argmin()), good.shape)
    position = [int(i) for i in index]
    msg = f"input {INPUT!r}: values {rule}, but the value at {position} is {values[index]}"
    raise RequestError(msg)


def _are_numbers(values: object, shape: tuple[int, ...]) -> bool:
    """Whether lists, nested like the shape, contain only integers and floats; a bool is not a number."""
    if not isinstance(values, list) or len(values) != shape[0]:
        return False
    if len(shape) == 1:
        return set(map(type, values)) <= {int, float}
    return all(_are_numbers(each, shape[1:]) for each in values)


def _array(numbers: list[Any]) -> NDArray[Any] | None:
    try:
        return np.array(numbers)
    except OverflowError:  # a number too large for any dtype
        return None


def _sizes(shape: object) -> tuple[int, ...]:
    """A shape as a tuple of integers; empty if it is not a shape, which no model accepts."""
    if not isinstance(shape, list) or len(shape) > 8:
        return ()
    return tuple(shape) if all(type(size) is int for size in shape) else ()


def shown(value: object) -> str:
    """A value from a client for an error message: escaped and truncated."""
    return escaped(repr(value))
