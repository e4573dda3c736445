from __future__ import annotations

import os

import numpy as np
import onnx
import pytest

from tests.engines.nets import dense_weight, linear_onnx
from tscnc_deploy.engines.onnx.external import files_beside
from tscnc_deploy.engines.onnx.file import array_of, parse_onnx
from tscnc_deploy.errors import InputError

NUMBERS = np.arange(8, dtype=np.float32)


def refer(path, **entries):
    """A file whose weight of 8 numbers is elsewhere."""
    weight = dense_weight([0.0] * 8)
    weight.ClearField("float_data")
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    for key, value in entries.items():
        weight.external_data.add(key=key, value=value)
    linear_onnx(weight, path)
    return path


def read(path):
    (tensor,) = parse_onnx(path.read_bytes(), path, third_party=True).graph.initializer
    return array_of(tensor).reshape(-1)


def test_numbers_from_a_file_beside_it(tmp_path):
    (tmp_path / "w.data").write_bytes(b"head" + NUMBERS.tobytes() + b"tail")
    path = refer(tmp_path / "m.onnx", location="w.data", offset="4", length="32")
    assert read(path).tolist() == list(range(8))
    assert files_beside(path) == [(tmp_path / "w.data").resolve()]


def test_below_the_folder_and_without_offset(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "w").write_bytes(NUMBERS.tobytes())
    assert read(refer(tmp_path / "m.onnx", location="sub/w")).tolist() == list(range(8))


def test_a_bundles_engine_has_no_files_beside_it(tmp_path):
    path = refer(tmp_path / "m.onnx", location="w.data")
    with pytest.raises(InputError, match="stores its data in another file"):
        parse_onnx(path.read_bytes(), path)


@pytest.mark.parametrize("location", ["../w", "/etc/passwd", "a/../../w", "C:\\w", "..\\w", "link"])
def test_files_elsewhere_are_refused(tmp_path, location):
    (tmp_path / "w").write_bytes(NUMBERS.tobytes())
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link").symlink_to(tmp_path / "w")
    with pytest.raises(InputError, match="outside of its folder; copy both files into one folder"):
        read(refer(inside / "m.onnx", location=location))
    with pytest.raises(InputError, match="outside of its folder"):
        files_beside(inside / "m.onnx")


def test_a_link_within_the_folder_is_followed(tmp_path):
    (tmp_path / "blob").write_bytes(NUMBERS.tobytes())
    (tmp_path / "w").symlink_to("blob")
    assert read(refer(tmp_path / "m.onnx", location="w")).tolist() == list(range(8))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"location": "none"}, "cannot be read: No such file or directory; it belongs beside it"),
        ({"location": "w", "length": "33"}, "should have 33 bytes from byte 0 on, but the file has 32"),
        ({"location": "w", "offset": "8", "length": "32"}, "should have 32 bytes from byte 8 on"),
        ({"location": "w", "length": str(100 * 2**30)}, "should have 107374182400 bytes"),
        ({"location": "w", "offset": "9" * 30}, "is not a number of bytes"),
        ({"location": "w", "offset": "-4"}, "is not a number of bytes"),
        ({"location": "w", "length": "16"}, "does not contain the 8 elements of its shape"),
        ({"location": "w", "other": "1"}, "in a way that is not understood"),
        ({"offset": "0"}, "in a way that is not understood"),
        ({"location": "pipe"}, "which is not a regular file"),
        ({"location": "."}, "which (is not a regular file|cannot be read)"),
        ({"location": "a\0b"}, "(outside of its folder|cannot be found)"),
        ({"location": "x" * 5000}, "cannot be (found|read)"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, entries, message):
    (tmp_path / "w").write_bytes(NUMBERS.tobytes())
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match=message):
        read(refer(tmp_path / "m.onnx", **entries))


def test_one_file_cannot_be_read_without_end(tmp_path):
    (tmp_path / "w").write_bytes(b"")
    os.truncate(tmp_path / "w", 2**32)
    path = refer(tmp_path / "m.onnx", location="w")
    with pytest.raises(InputError, match=r"its weights need more than .* bytes, the largest size of an ONNX file"):
        read(path)
