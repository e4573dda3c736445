"""The guards at the door: what a tensor says of itself is checked before memory is given to it, then its values are."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tscnc_deploy.engines.base import Array
from tscnc_deploy.open_inference import INPUT
from tscnc_deploy.pixels import to_unit_range
from tscnc_deploy.serving.errors import RequestError

_DTYPES: dict[str, np.dtype[Any]] = {"FP32": np.dtype("<f4"), "UINT8": np.dtype("u1")}
_MAX_JSON = 64 << 20
# A JSON number of a float32 takes at most so many characters with its comma; clients that write more have to say less.
_JSON_CHARACTERS = 24
_JSON_AROUND = 1 << 16


@dataclass(frozen=True)
class Header:
    """What a request says of its one input tensor.

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
    """Lets images in that an engine may be given.

    Attributes:
        input_shape: (C, H, W) of one image.
        max_images: Most images of one request.
    """

    input_shape: tuple[int, int, int]
    max_images: int

    @property
    def max_body(self) -> int:
        """Bytes that a request of `max_images` needs in binary form, or as JSON where that is not too long to parse."""
        values = self.max_images * prod(self.input_shape)
        return max(min(values * _JSON_CHARACTERS, _MAX_JSON), values * 4) + _JSON_AROUND

    def header(self, name: object, datatype: object, shape: object) -> Header:
        """Checks what a request says of its input; allocates nothing.

        Args:
            name: Of the tensor.
            datatype: Of its values.
            shape: A list of whole numbers.

        Raises:
            RequestError: Another name, datatype or shape than the model's, or too many images.
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
            msg = f"input {INPUT!r}: shape must be [N, {expected}] with N from 1 up, not {shown(shape)}"
            raise RequestError(msg)
        if sizes[0] > self.max_images:
            msg = f"input {INPUT!r}: {sizes[0]} images in one request; at most {self.max_images} are taken"
            raise RequestError(msg)
        return Header(datatype, sizes)

    def from_bytes(self, header: Header, data: bytes | memoryview) -> Array:
        """Images from their binary form, row-major and little-endian; shares the memory of FP32.

        Raises:
            RequestError: Not as many bytes as the shape needs, or values outside [0, 1].
        """
        if len(data) != header.bytes:
            msg = (
                f"input {INPUT!r}: {len(data)} bytes of data, but {header.datatype} {list(header.shape)} takes "
                f"{header.bytes}"
            )
            raise RequestError(msg)
        return _images(np.frombuffer(data, _DTYPES[header.datatype]).reshape(header.shape), header)

    def from_numbers(self, header: Header, numbers: object) -> Array:
        """Images from numbers as JSON or a message lists them: flat, or nested like the shape.

        Raises:
            RequestError: Something else than numbers, not as many as the shape needs, or values outside the range.
        """
        count = prod(header.shape)
        # The lengths of flat lists are compared before numpy sees them; nested ones are as long as the body allows.
        flat = isinstance(numbers, list) and not (numbers and isinstance(numbers[0], list))
        if not isinstance(numbers, list) or (flat and len(numbers) != count):
            given = f"{len(numbers)} values" if isinstance(numbers, list) else "no list of values"
            msg = f"input {INPUT!r}: {given} in data, but {list(header.shape)} takes {count}"
            raise RequestError(msg)
        array = _array(numbers)
        if array.dtype.kind not in "iuf" or array.size != count or array.shape not in ((count,), header.shape):
            msg = f"input {INPUT!r}: data must be {count} numbers, flat or nested like the shape {list(header.shape)}"
            raise RequestError(msg)
        return self.from_array(header, array)

    def from_array(self, header: Header, array: NDArray[Any]) -> Array:
        """Images from an array of numbers of any type with as many values as the header says.

        Raises:
            RequestError: Values outside [0, 1], or for UINT8 no whole numbers from 0 to 255.
        """
        array = array.reshape(header.shape)
        if header.datatype == "UINT8":
            _refuse_where((array >= 0) & (array <= 255) & (array % 1 == 0), array, "must be whole, from 0 to 255")
        with np.errstate(over="ignore"):  # becomes infinity, which is refused by its place
            return _images(array.astype(_DTYPES[header.datatype]), header)


def _images(values: NDArray[Any], header: Header) -> Array:
    if header.datatype == "UINT8":
        return to_unit_range(values)
    # NaN compares false with everything, so this refuses it too.
    _refuse_where((values >= 0) & (values <= 1), values, "must lie in [0, 1]")
    return values


def _refuse_where(good: NDArray[np.bool_], values: NDArray[Any], rule: str) -> None:
    if good.all():
        return
    index = np.unravel_index(int(good.argmin()), good.shape)
    place = [int(i) for i in index]
    msg = f"input {INPUT!r}: values {rule}; the first that does not is at {place}: {values[index]}"
    raise RequestError(msg)


def _array(numbers: list[Any]) -> NDArray[Any]:
    try:
        return np.array(numbers)
    except (ValueError, OverflowError):  # ragged, or a number too large for any type
        return np.empty(0, object)


def _sizes(shape: object) -> tuple[int, ...]:
    """A shape as whole numbers; empty if it is none, which no model takes."""
    if not isinstance(shape, list) or len(shape) > 8:
        return ()
    return tuple(shape) if all(type(size) is int for size in shape) else ()


def shown(value: object) -> str:
    """A client's value for a message: escaped and cut."""
    text = repr(value)
    return ascii(text if len(text) <= 80 else text[:80] + "...")[1:-1]
