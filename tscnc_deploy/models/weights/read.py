"""Opens files with weights: safetensors, and what torch.save wrote since PyTorch 0.4, as a zip archive or before that.

Nothing of a file is executed (see `pickles`), and tensors are read when they are asked for: an optimizer's state beside
the weights costs nothing. Every size that a file declares is compared with the bytes that it has before memory is
allocated.
"""

from __future__ import annotations

import io
import math
import os
import stat
import struct
import sys
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from tscnc_deploy.errors import InputError
from tscnc_deploy.models.weights import SUFFIXES
from tscnc_deploy.models.weights.pickles import Built, Global, Persistent, PickleError, read_pickle
from tscnc_deploy.text import any_of, escaped

# Of the pickle, which describes the tensors but does not contain them, and of a zip archive's list of files.
_MAX_PICKLE = 32 << 20
_MAX_DIRECTORY = 4 << 20
_CHUNK = 1 << 20
_MAX_COUNT = 1 << 48
_MAX_DIMENSIONS = 32
# Two keys lead to a state dict at most; an optimizer's state is deeper.
_MAX_DEPTH = 2
_MAX_ENTRIES, _MAX_CONTAINERS, _MAX_NAME = 1 << 18, 10_000, 1000
# See torch.serialization.MAGIC_NUMBER and PROTOCOL_VERSION.
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_DTYPES = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
    "Untyped": torch.uint8,
}
_DAMAGE = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    EOFError,
    RuntimeError,
    struct.error,
    zipfile.BadZipFile,
)


@dataclass(frozen=True)
class Stored:
    """A tensor of a file, not yet read.

    Attributes:
        shape: Its shape.
        dtype: Its dtype.
        place: Equal for tensors that are the same part of the file.
        read: Reads it; the file must still be open. The tensor may share memory with others.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    place: Hashable
    read: Callable[[], Tensor]


@dataclass(frozen=True)
class Foreign:
    """A Python object of a file, which is not loaded.

    Attributes:
        name: The name of its class or function, safe to print.
        is_module: Whether it is a whole nn.Module.
    """

    name: str
    is_module: bool = False


@dataclass(frozen=True)
class Container:
    """A dict of a file.

    Attributes:
        key: The keys that lead to it, joined by dots; "" for the outermost.
        entries: Its tensors and objects by name; without plain values and dicts.
    """

    key: str
    entries: dict[str, Stored | Foreign]


_Node = dict[str, Any] | Stored | Foreign | None


class Content:
    """The content of an open file.

    Attributes:
        containers: The file's dicts, the outermost first, down to `_MAX_DEPTH` keys.
        whole: What the file contains if that is not a dict: a tensor, an object, or None for a plain value.
    """

    def __init__(self, path: Path, root: Any, node: Callable[[Any], _Node]) -> None:
        self._path, self._node = path, node
        self._visited = self._entered = 0
        whole = node(root)
        self.whole = None if isinstance(whole, dict) else whole
        self.containers = list(self._walk("", whole, _MAX_DEPTH)) if isinstance(whole, dict) else []

    def read(self, tensor: Stored) -> Tensor:
        """Reads a tensor of this file.

        Raises:
            InputError: The file is damaged.
        """
        with _damage(self._path):
            return tensor.read()

    def _walk(self, key: str, values: dict[str, Any], depth: int) -> Iterator[Container]:
        # The same dict may be under many keys, in dicts that are under many keys themselves.
        self._visited += len(values)
        self._entered += 1
        if self._visited > _MAX_ENTRIES or self._entered > _MAX_CONTAINERS:
            msg = f"it has more than {_MAX_ENTRIES} entries in {_MAX_CONTAINERS} dicts"
            raise PickleError(msg)
        # A name may be part of many others.
        if any(len(name) > _MAX_NAME for name in values):
            msg = f"it has a key of more than {_MAX_NAME} characters"
            raise PickleError(msg)
        nodes = {name: self._node(value) for name, value in values.items()}
        yield Container(key, {name: node for name, node in nodes.items() if isinstance(node, Stored | Foreign)})
        if depth:
            for name, node in nodes.items():
                if isinstance(node, dict):
                    yield from self._walk(f"{key}.{name}" if key else name, node, depth - 1)


@contextmanager
def open_weights(path: Path) -> Iterator[Content]:
    """Opens a file; while it is open, its tensors can be read.

    Raises:
        InputError: The file is missing, of another kind, damaged or truncated, or was changed to do harm.
    """
    if not path.name.endswith(SUFFIXES):
        msg = f"{path}: model.checkpoint must be a file with weights: {any_of(SUFFIXES)}"
        raise InputError(msg)
    with ExitStack() as stack:
        with _damage(path):
            # Checked before it is opened, because opening a pipe waits for a writer.
            if not stat.S_ISREG(path.stat().st_mode):
                msg = f"{path}: cannot be read: it is not a regular file"
                raise InputError(msg)
            if path.suffix == ".safetensors":
                content = Content(path, safetensors.torch.load_file(path), _node_of_safetensors)
            else:
                content = _torch_content(path, stack.enter_context(path.open("rb")))
        yield content


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Turns what parsers raise on damaged files into one message."""
    try:
        yield
    except (SafetensorError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        msg = f"{path}: cannot be read: {reason}"
        raise InputError(msg) from error
    except (PickleError, zipfile.BadZipFile) as error:
        msg = f"{path}: is damaged: {escaped(str(error), 200)}"
        raise InputError(msg) from error
    except _DAMAGE as error:
        msg = f"{path}: is damaged: its content is not what torch.save writes"
        raise InputError(msg) from error


def _node_of_safetensors(value: Any) -> _Node:
    if isinstance(value, Tensor):
        return Stored(tuple(value.shape), value.dtype, id(value), lambda: value)
    return value


def _torch_content(path: Path, file: io.BufferedReader) -> Content:
    start = file.read(512)
    file.seek(0)
    storages: _Storages
    if start.startswith(_ZIP):
        storages = _ZipStorages(path, file)
    elif start.startswith(_PICKLE):
        storages = _LegacyStorages(path, file)
    elif start[257:262] == b"ustar":
        msg = f"{path}: is a tar archive; extract it, and name the file with weights that is inside"
        raise InputError(msg)
    else:
        msg = "it does not begin like a file of torch.save"
        raise PickleError(msg)
    return Content(path, storages.root, storages.node)


def _foreign(value: Built) -> Foreign:
    callee = value.callee
    while isinstance(callee, Built):
        callee = callee.callee
    match callee:
        # As before PyTorch 1.6, with the source code of the class.
        case Global(name) | Persistent(("module", Global(name), *_)):
            pass
        case _:
            name = "Python object"
    # As copyreg creates objects by protocols 0 and 1, and as functions are called that create an object.
    if name.startswith(("copyreg.", "copy_reg.")) and value.args and isinstance(value.args[0], Global):
        name = value.args[0].path
    is_module = isinstance(value.state, dict) and {"_modules", "_parameters"} <= value.state.keys()
    return Foreign(escaped(name, 200), is_module)


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < _MAX_COUNT:
        msg = "its pickle declares a size that is not a number, negative, or too large"
        raise PickleError(msg)
    return value


class _Storages(ABC):
    """The bytes of a file's tensors; several tensors may share a storage.

    Attributes:
        root: The object that was saved.
    """

    root: Any

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        # No byte belongs to two storages, so together they have at most as many as the file.
        self._unread = self._size
        self._cache: dict[str, Tensor] = {}

    @abstractmethod
    def size(self, key: str) -> int:
        """Number of bytes of a storage that the file really has."""

    @abstractmethod
    def copy(self, key: str, buffer: bytearray) -> int:
        """Reads a storage into a buffer of its size; returns the number of bytes."""

    def node(self, value: Any) -> _Node:
        """What a value of the pickle stands for."""
        if isinstance(value, dict):
            return value
        if isinstance(value, Global):
            return Foreign(escaped(value.path, 200))
        if not isinstance(value, Built):
            return None
        if value.items is not None:
            return value.items
        return self._tensor(value) or _foreign(value)

    def _tensor(self, value: Built) -> Stored | None:
        while True:
            match value:
                case Built(Global("torch._tensor._rebuild_from_type_v2"), (Global() as callee, _, tuple() as args, _)):
                    value = Built(callee, args)
                case Built(
                    Global(
                        "torch._utils._rebuild_parameter"
                        | "torch._utils._rebuild_parameter_with_state"
                        | "torch.nn.parameter.Parameter"
                    ),
                    (Built() as data, *_),
                ):
                    value = data
                case Built(
                    Global("torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2"),
                    (Persistent(id), offset, tuple() as shape, tuple() as stride, *_),
                ):
                    return self._view(id, offset, shape, stride)
                case _:
                    return None

    def _view(self, id: Any, offset: Any, shape: tuple[Any, ...], stride: tuple[Any, ...]) -> Stored:
        key, dtype, count = _storage(id)
        declared = count * dtype.itemsize
        if declared != (actual := self.size(key)):
            msg = f"its pickle declares {declared} bytes for a tensor for which the file has {actual}"
            raise PickleError(msg)
        # Files from before PyTorch 1.6 may contain a part of a storage: its key, offset and length.
        part = id[5] if len(id) > 5 else None
        offset = _count(offset) + (_count(part[1]) if isinstance(part, tuple) else 0)
        if not len(shape) == len(stride) <= _MAX_DIMENSIONS:
            msg = f"its pickle declares a tensor with {len(shape)} dimensions and {len(stride)} strides"
            raise PickleError(msg)
        shape, stride = tuple(map(_count, shape)), tuple(map(_count, stride))
        elements = math.prod(shape)
        end = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True)) + 1
        if elements and (elements > count or end > count):
            msg = f"its pickle declares a tensor of {elements} numbers in a storage of {count}"
            raise PickleError(msg)

        def read() -> Tensor:
            if not elements:
                return torch.empty(shape, dtype=dtype)
            numbers = self._bytes(key)
            # Bytes other than 0 and 1 are undefined behaviour as bool.
            numbers = numbers != 0 if dtype == torch.bool else numbers.view(dtype)
            return numbers.as_strided(shape, stride, offset)

        return Stored(shape, dtype, (key, dtype, offset, shape, stride), read)

    def _bytes(self, key: str) -> Tensor:
        if key not in self._cache:
            size = self.size(key)
            if size > self._unread:
                msg = "parts of it overlap"
                raise PickleError(msg)
            self._unread -= size
            buffer = bytearray(size)
            if self.copy(key, buffer) != size:
                msg = "it ends within a tensor"
                raise PickleError(msg)
            self._cache[key] = torch.frombuffer(buffer, dtype=torch.uint8)
        return self._cache[key]


class _ZipStorages(_Storages):
    """The form since PyTorch 1.6: NAME/data.pkl and NAME/data/KEY, not compressed."""

    def __init__(self, path: Path, file: io.BufferedReader) -> None:
        super().__init__(file)
        capped = _Capped(file)
        self._archive = zipfile.ZipFile(capped)
        capped.limit = None
        names = [name for name in self._archive.namelist() if name.partition("/")[2] == "data.pkl"]
        if len(names) != 1:
            msg = f"{path}: is a zip archive without the file data.pkl that torch.save writes"
            raise InputError(msg)
        self._folder = names[0].partition("/")[0]
        if f"{self._folder}/constants.pkl" in self._archive.NameToInfo:
            msg = f"{path}: is a TorchScript archive, whose code is not run; save the model's state_dict() instead"
            raise InputError(msg)
        if f"{self._folder}/byteorder" in self._archive.NameToInfo:
            order = self._content("byteorder", 100).decode("ascii", "replace")
            if order != sys.byteorder:
                msg = f"{path}: has the byte order {escaped(order)!r} instead of this machine's {sys.byteorder!r}"
                raise InputError(msg)
        self.root = read_pickle(io.BytesIO(self._content("data.pkl", _MAX_PICKLE)))

    def size(self, key: str) -> int:
        return self._entry(f"data/{key}").file_size

    def copy(self, key: str, buffer: bytearray) -> int:
        done = 0
        # The checksum is compared at the end.
        with self._archive.open(self._entry(f"data/{key}")) as entry:
            while chunk := entry.read(_CHUNK):
                buffer[done : done + len(chunk)] = chunk
                done += len(chunk)
        return done

    def _content(self, name: str, limit: int) -> bytes:
        entry = self._entry(name)
        if entry.file_size > limit:
            msg = f"{escaped(name)} has {entry.file_size} bytes; at most {limit} are allowed"
            raise PickleError(msg)
        return self._archive.read(entry)

    def _entry(self, name: str) -> zipfile.ZipInfo:
        entry = self._archive.NameToInfo.get(f"{self._folder}/{name}")
        if entry is None:
            msg = f"it lacks {escaped(name)}"
            raise PickleError(msg)
        if entry.compress_type != zipfile.ZIP_STORED or not entry.compress_size == entry.file_size <= self._size:
            msg = f"{escaped(name)} is compressed, or has another size than it declares"
            raise PickleError(msg)
        return entry


class _LegacyStorages(_Storages):
    """The form before PyTorch 1.6: five pickles, then each storage's number of elements and bytes."""

    def __init__(self, path: Path, file: io.BufferedReader) -> None:
        super().__init__(file)
        pickles = io.BytesIO(file.read(_MAX_PICKLE))
        if read_pickle(pickles) != _MAGIC:
            msg = f"{path}: is a pickle that torch.save did not write; save the model's state_dict() with torch.save"
            raise InputError(msg)
        references: list[Persistent] = []
        protocol, system = read_pickle(pickles), read_pickle(pickles)
        self.root, keys = read_pickle(pickles, references), read_pickle(pickles)
        if protocol != _PROTOCOL or not isinstance(system, dict) or not isinstance(keys, list):
            msg = "its header is not that of torch.save"
            raise PickleError(msg)
        if system.get("little_endian") is not (sys.byteorder == "little"):
            msg = f"{path}: has another byte order than this machine's {sys.byteorder!r}"
            raise InputError(msg)
        widths = {}
        for reference in references:
            if isinstance(reference.id, tuple) and reference.id[0] == "storage":
                key, dtype, _ = _storage(reference.id)
                widths[key] = dtype.itemsize
        self._places: dict[str, tuple[int, int]] = {}
        place = pickles.tell()
        for key in keys:
            file.seek(place)
            (count,) = struct.unpack("<q", file.read(8))
            length = _count(count) * widths[str(key)]
            if place + 8 + length > self._size:
                msg = f"it ends within a tensor of {length} bytes"
                raise PickleError(msg)
            self._places[str(key)] = (place + 8, length)
            place += 8 + length

    def size(self, key: str) -> int:
        return self._places[key][1]

    def copy(self, key: str, buffer: bytearray) -> int:
        self._file.seek(self._places[key][0])
        return self._file.readinto(buffer)


def _storage(id: Any) -> tuple[str, torch.dtype, int]:
    """Key, dtype and number of elements of the storage that a pickle refers to."""
    match id:
        case ("storage", Global(kind), str() | int() as key, _, count, *_) if kind.startswith("torch."):
            name = kind.rpartition(".")[2].removesuffix("Storage")
            if name not in _DTYPES:
                msg = f"it contains a {kind}, which is not loaded"
                raise PickleError(msg)
            return str(key), _DTYPES[name], _count(count)
    msg = "its pickle refers to something other than the bytes of a tensor"
    raise PickleError(msg)


class _Capped:
    """A file of which a list of files is read that must not be large."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file
        self.limit: int | None = _MAX_DIRECTORY
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, count: int = -1) -> bytes:
        if count < 0:
            count = os.fstat(self._file.fileno()).st_size - self._file.tell()
        if self.limit is not None and count > self.limit:
            msg = f"its list of files has {count} bytes; at most {self.limit} are allowed"
            raise PickleError(msg)
        return self._file.read(count)
