"""Reads tensors that an ONNX file keeps in other files, without trusting what it says about them.

`torch.onnx.export` writes its weights to such a file by default. A location in it may name any file of the machine, and
offsets and lengths may be anything, so both are checked before a byte is read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto

from tscnc_deploy.engines.onnx.limits import MAX_BYTES
from tscnc_deploy.errors import InputError
from tscnc_deploy.files import read_file
from tscnc_deploy.text import escaped

_KEYS = {"location", "offset", "length", "checksum", "basepath"}


def has_external(model: ModelProto) -> bool:
    """Whether a parsed model keeps tensors in other files."""
    return any(True for _ in _external(model))


def files_beside(path: Path) -> list[Path]:
    """The files beside an ONNX file that hold its weights, in order of use.

    Raises:
        InputError: The file is not an ONNX file, or one of them does not lie in its folder or below it.
    """
    try:
        model = ModelProto.FromString(read_file(path, MAX_BYTES))
        names = dict.fromkeys(_location(tensor, path) for tensor in _external(model))
    except (DecodeError, UnicodeDecodeError) as error:
        msg = f"{path}: not an ONNX file, or a truncated one"
        raise InputError(msg) from error
    return [_inside(name, path) for name in names]


def read_external(model: ModelProto, path: Path, most: int = MAX_BYTES) -> None:
    """Replaces references to data files in a model by the data.

    Args:
        model: As parsed; it is changed.
        path: Its file. Data files must be regular files in its folder or below; links must not lead out of it.
        most: Largest number of bytes of all data together.

    Raises:
        InputError: A data file is missing, too short, or elsewhere; or there are too many data.
    """
    left = most
    for tensor in _external(model):
        name = _location(tensor, path)
        entries = {entry.key: entry.value for entry in tensor.external_data}
        file = _inside(name, path)
        where = f"{path}: {escaped(tensor.name)!r} in {escaped(name)!r}"
        with os.fdopen(_opened(file, path), "rb") as data:
            size = os.fstat(data.fileno()).st_size
            offset = _number(entries.get("offset", "0"), where)
            length = _number(entries.get("length", str(max(size - offset, 0))), where)
            if offset + length > size:
                msg = f"{where}: should have {length} bytes from byte {offset} on, but the file has {size}"
                raise InputError(msg)
            left -= length
            if left < 0:
                msg = f"{path}: its weights need more than {most} bytes, the largest size of an ONNX file"
                raise InputError(msg)
            data.seek(offset)
            tensor.raw_data = data.read(length)
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")


def _external(model: ModelProto) -> Iterator[TensorProto]:
    """The tensors of initializers and constants that refer to another file."""
    graph = model.graph
    tensors = [*graph.initializer]
    tensors += [part for sparse in graph.sparse_initializer for part in (sparse.values, sparse.indices)]
    tensors += [a.t for node in graph.node for a in node.attribute if a.HasField("t")]
    return (t for t in tensors if t.data_location == TensorProto.EXTERNAL or t.external_data)


def _location(tensor: TensorProto, path: Path) -> str:
    entries = [(entry.key, entry.value) for entry in tensor.external_data]
    keys = [key for key, _ in entries]
    location = dict(entries).get("location", "")
    if not set(keys) <= _KEYS or len(set(keys)) < len(keys) or not isinstance(location, str) or not location:
        msg = f"{path}: {escaped(tensor.name)!r} refers to another file in a way that is not understood"
        raise InputError(msg)
    return location


def _inside(name: str, path: Path) -> Path:
    """The data file's real path, which must be below the folder of the model's file."""
    relative = PurePosixPath(name)
    outside = relative.is_absolute() or PureWindowsPath(name).drive or ".." in relative.parts or "\\" in name
    folder = path.parent.resolve()
    try:
        found = (folder / relative).resolve()
        if "\0" in name or outside or not found.is_relative_to(folder):
            msg = (
                f"{path}: its weights are in {escaped(name)!r}, outside of its folder; copy both files into one folder"
            )
            raise InputError(msg)
    except (OSError, ValueError, RuntimeError) as error:
        msg = f"{path}: its weights are in {escaped(name)!r}, which cannot be found"
        raise InputError(msg) from error
    return found


def _opened(file: Path, path: Path) -> int:
    try:
        # No link any more, as the path is resolved; not blocking, as opening a pipe would.
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        msg = f"{path}: its weights are in {file.name!a}, which cannot be read: {error.strerror}; it belongs beside it"
        raise InputError(msg) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        msg = f"{path}: its weights are in {file.name!a}, which is not a regular file"
        raise InputError(msg)
    return descriptor


def _number(text: str, where: str) -> int:
    if not (isinstance(text, str) and text.isascii() and text.isdecimal() and len(text) < 20):
        msg = f"{where}: {escaped(str(text)[:30])!r} is not a number of bytes"
        raise InputError(msg)
    return int(text)
